package main

import (
	"context"
	"fmt"
	"os"
	"time"

	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Argo CD gives scripts from its ConfigMap these libraries, a harmless part of "os", and a second.
var libraries = map[string]lua.LGFunction{
	lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable,
}

const patience = time.Second

// health is how Argo CD reads objects by a health.lua.
func health(path string) (oracle, error) {
	script, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return func(object *unstructured.Unstructured) (answer, error) {
		state := lua.NewState(lua.Options{SkipOpenLibs: true})
		defer state.Close()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		state.SetContext(ctx)
		for name, open := range libraries {
			if err := state.CallByParam(lua.P{Fn: state.NewFunction(open), Protect: true}, lua.LString(name)); err != nil {
				return answer{}, err
			}
		}
		state.SetGlobal("obj", value(state, object.Object))
		if err := state.DoString(string(script)); err != nil {
			return answer{}, err
		}
		table, ok := state.Get(-1).(*lua.LTable)
		if !ok {
			return answer{}, fmt.Errorf("%s returned %s: return a table", path, state.Get(-1).Type())
		}
		return answer{text(table, "status"), text(table, "message")}, nil
	}, nil
}

func text(table *lua.LTable, key string) string {
	return lua.LVAsString(table.RawGetString(key))
}

func value(state *lua.LState, of any) lua.LValue {
	switch of := of.(type) {
	case bool:
		return lua.LBool(of)
	case string:
		return lua.LString(of)
	case int64:
		return lua.LNumber(of)
	case float64:
		return lua.LNumber(of)
	case []any:
		list := state.NewTable()
		for _, item := range of {
			list.Append(value(state, item))
		}
		return list
	case map[string]any:
		table := state.NewTable()
		for key, item := range of {
			table.RawSetString(key, value(state, item))
		}
		return table
	}
	return lua.LNil
}
