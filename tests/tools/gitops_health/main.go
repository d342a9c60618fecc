// oracles says how the tools of others read our objects, by running these tools' own libraries: it takes JSON objects on standard
// input, one after the other, and writes a line of JSON with status and message for each.
//
//	oracles kstatus                 kubectl, Flux and every tool that waits by sigs.k8s.io/cli-utils
//	oracles lua health.lua          Argo CD: the script in Argo CD's interpreter, with the libraries it gives to such scripts
//	oracles cel kustomization.yaml  Flux: spec.healthCheckExprs of a Kustomization
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type answer struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

type oracle func(*unstructured.Unstructured) (answer, error)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "oracles:", err)
		os.Exit(1)
	}
}

func run(words []string) error {
	ask, err := chosen(words)
	if err != nil {
		return err
	}
	return answerAll(ask, os.Stdin, os.Stdout)
}

func chosen(words []string) (oracle, error) {
	switch {
	case len(words) == 1 && words[0] == "kstatus":
		return kstatus, nil
	case len(words) == 2 && words[0] == "lua":
		return health(words[1])
	case len(words) == 2 && words[0] == "cel":
		return healthCheckExprs(words[1])
	}
	return nil, errors.New("say kstatus, lua FILE or cel FILE")
}

func answerAll(ask oracle, in io.Reader, out io.Writer) error {
	objects, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var raw json.RawMessage
		if err := objects.Decode(&raw); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var object unstructured.Unstructured // its own decoder: it keeps integers apart from floats
		if err := object.UnmarshalJSON(raw); err != nil {
			return err
		}
		result, err := ask(&object)
		if err != nil {
			return err
		}
		if err := answers.Encode(result); err != nil {
			return err
		}
	}
}

func kstatus(object *unstructured.Unstructured) (answer, error) {
	result, err := status.Compute(object)
	if err != nil {
		return answer{}, err
	}
	return answer{result.Status.String(), result.Message}, nil
}
