"""Kept for pods of earlier releases, whose commands name `subterra_jobs.common.verify`."""
