package main

import (
	"context"
	"fmt"
	"os"

	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

type kustomization struct {
	Spec struct {
		HealthCheckExprs []kustomize.CustomHealthCheck `json:"healthCheckExprs"`
	} `json:"spec"`
}

// healthCheckExprs is how Flux reads objects by the expressions of a Kustomization.
func healthCheckExprs(path string) (oracle, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var found kustomization
	if err := yaml.Unmarshal(text, &found); err != nil {
		return nil, err
	}
	evaluators := map[schema.GroupVersionKind]*cel.StatusEvaluator{}
	for _, check := range found.Spec.HealthCheckExprs {
		kind := schema.FromAPIVersionAndKind(check.APIVersion, check.Kind)
		if evaluators[kind], err = cel.NewStatusEvaluator(&check.HealthCheckExpressions); err != nil {
			return nil, fmt.Errorf("%s: %w", kind, err)
		}
	}
	return func(object *unstructured.Unstructured) (answer, error) {
		evaluator := evaluators[object.GroupVersionKind()]
		if evaluator == nil {
			return answer{}, fmt.Errorf("%s has no expressions for %s", path, object.GroupVersionKind())
		}
		result, err := evaluator.Evaluate(context.Background(), object)
		if err != nil {
			return answer{}, err
		}
		return answer{result.Status.String(), result.Message}, nil
	}, nil
}
