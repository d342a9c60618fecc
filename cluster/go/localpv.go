package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	provisionerName = "subterra.dev/local"                       // the StorageClass names it
	chosenFor       = "volume.kubernetes.io/storage-provisioner" // set by Kubernetes on claims that wait for us
	chosenForOld    = "volume.beta.kubernetes.io/storage-provisioner"
	provisionedBy   = "pv.kubernetes.io/provisioned-by"
)

// provisioner makes a directory and a "local" volume for each claim of its storage class, and removes both when the
// claim is gone. "local" rather than "hostPath": only the former honours fsGroup, so that pods need no root.
type provisioner struct {
	client    kubernetes.Interface
	directory string
	node      string
}

// runLocalPV is the component's entry point: it looks once a second, and a failed look is only reported.
func runLocalPV() {
	kubeconfig := flag.String("kubeconfig", "", "credentials for the API server")
	directory := flag.String("directory", "", "where the volumes live; each gets a folder")
	node := flag.String("node", "", "the node that has the directory")
	flag.Parse()
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		log.Fatal(err)
	}
	p := provisioner{kubernetes.NewForConfigOrDie(config), *directory, *node}
	for ; ; time.Sleep(time.Second) {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		if err := p.round(ctx); err != nil {
			log.Print(err)
		}
		cancel()
	}
}

// round serves the claims that wait and clears the volumes that are no longer claimed.
func (p provisioner) round(ctx context.Context) error {
	claims, err := p.client.CoreV1().PersistentVolumeClaims("").List(ctx, meta.ListOptions{})
	if err != nil {
		return err
	}
	for i := range claims.Items {
		if waitsForUs(&claims.Items[i]) {
			if err := p.provision(ctx, &claims.Items[i]); err != nil {
				log.Print(err)
			}
		}
	}
	volumes, err := p.client.CoreV1().PersistentVolumes().List(ctx, meta.ListOptions{})
	if err != nil {
		return err
	}
	for i := range volumes.Items {
		if err := p.clear(ctx, &volumes.Items[i]); err != nil {
			log.Print(err)
		}
	}
	return nil
}

// waitsForUs says whether a claim needs a volume from this provisioner; block devices and selectors it cannot serve.
func waitsForUs(claim *core.PersistentVolumeClaim) bool {
	ours := claim.Annotations[chosenFor] == provisionerName || claim.Annotations[chosenForOld] == provisionerName
	block := claim.Spec.VolumeMode != nil && *claim.Spec.VolumeMode == core.PersistentVolumeBlock
	return ours && !block && claim.Spec.Selector == nil && claim.Spec.VolumeName == "" &&
		claim.Status.Phase == core.ClaimPending && claim.DeletionTimestamp == nil
}

// provision makes the directory and the volume; a volume that exists already is fine.
func (p provisioner) provision(ctx context.Context, claim *core.PersistentVolumeClaim) error {
	volume := p.volumeFor(claim)
	if err := os.MkdirAll(volume.Spec.Local.Path, 0o770); err != nil {
		return err
	}
	_, err := p.client.CoreV1().PersistentVolumes().Create(ctx, volume, meta.CreateOptions{})
	if errors.IsAlreadyExists(err) {
		return nil
	}
	if err == nil {
		log.Printf("volume %s for claim %s/%s", volume.Name, claim.Namespace, claim.Name)
	}
	return err
}

// volumeFor returns the volume of a claim, bound to that very claim (its UID) and to this node.
func (p provisioner) volumeFor(claim *core.PersistentVolumeClaim) *core.PersistentVolume {
	name := fmt.Sprintf("pvc-%s", claim.UID)
	return &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{Name: name, Annotations: map[string]string{provisionedBy: provisionerName}},
		Spec: core.PersistentVolumeSpec{
			Capacity:                      core.ResourceList{core.ResourceStorage: claim.Spec.Resources.Requests[core.ResourceStorage]},
			AccessModes:                   claim.Spec.AccessModes,
			StorageClassName:              *claim.Spec.StorageClassName,
			PersistentVolumeReclaimPolicy: core.PersistentVolumeReclaimDelete,
			ClaimRef: &core.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID},
			PersistentVolumeSource: core.PersistentVolumeSource{
				Local: &core.LocalVolumeSource{Path: filepath.Join(p.directory, name)}},
			NodeAffinity: &core.VolumeNodeAffinity{Required: &core.NodeSelector{NodeSelectorTerms: []core.NodeSelectorTerm{{
				MatchExpressions: []core.NodeSelectorRequirement{{Key: core.LabelHostname,
					Operator: core.NodeSelectorOpIn, Values: []string{p.node}}}}}}},
		},
	}
}

// clear removes a released volume of ours with its data; the path is checked, since it comes from the API.
func (p provisioner) clear(ctx context.Context, volume *core.PersistentVolume) error {
	path := filepath.Join(p.directory, volume.Name)
	if volume.Annotations[provisionedBy] != provisionerName || volume.Status.Phase != core.VolumeReleased ||
		volume.Spec.PersistentVolumeReclaimPolicy != core.PersistentVolumeReclaimDelete ||
		volume.Spec.Local == nil || volume.Spec.Local.Path != path {
		return nil
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	log.Printf("volume %s removed", volume.Name)
	uid := volume.UID
	err := p.client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name,
		meta.DeleteOptions{Preconditions: &meta.Preconditions{UID: &uid}})
	if errors.IsNotFound(err) {
		return nil
	}
	return err
}
