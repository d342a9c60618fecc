"""A few conversations of a plan, written without Ray and without a store, for an author to read before a compile."""
