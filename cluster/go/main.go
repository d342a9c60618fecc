// Subterra-cluster is every component of a one-node Kubernetes in one binary: the first argument says which one to be.
//
// One binary, because the components share nearly all of their code: eight of them link in the time and the space of
// two, and one file in a cache stands for a version of the whole cluster.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sort"
	"strings"
	"syscall"

	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
	nodestages "sigs.k8s.io/kwok/kustomize/stage/node/fast"
	nodelease "sigs.k8s.io/kwok/kustomize/stage/node/heartbeat-with-lease"
	podstages "sigs.k8s.io/kwok/kustomize/stage/pod/fast"
	kwokconfig "sigs.k8s.io/kwok/pkg/config"
	kwok "sigs.k8s.io/kwok/pkg/kwok/cmd"
	kwoklog "sigs.k8s.io/kwok/pkg/log"
)

// cobraComponents are the components that come as a cobra command; each is built only when it is asked for.
var cobraComponents = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllers.NewControllerManagerCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kube-proxy":              proxy.NewProxyCommand,
	"kubelet":                 func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
	"kubectl":                 kubectl.NewDefaultKubectlCommand,
}

// plainComponents are those with an entry point of their own, which reads os.Args.
var plainComponents = map[string]func(){
	"etcd":    func() { etcdmain.Main(os.Args) },
	"coredns": coremain.Run,
	"kwok":    runKwok,
	"localpv": runLocalPV,
}

func main() {
	if len(os.Args) < 2 {
		usage()
	}
	name := os.Args[1]
	os.Args = append([]string{name}, os.Args[2:]...) // every component believes that it is the program itself
	if run, ok := plainComponents[name]; ok {
		run()
		return
	}
	build, ok := cobraComponents[name]
	if !ok {
		usage()
	}
	os.Exit(cli.Run(build()))
}

// kwokStages are kwok's own: nodes stay ready, pods run at once, pods of Jobs succeed.
var kwokStages = []string{nodestages.DefaultNodeInit, nodelease.DefaultNodeHeartbeatWithLease,
	podstages.DefaultPodReady, podstages.DefaultPodComplete, podstages.DefaultPodDelete}

// runKwok reads kwok's own flags and configuration first: its command expects to find them in the context.
func runKwok() {
	flags := pflag.NewFlagSet("global", pflag.ContinueOnError)
	flags.ParseErrorsAllowlist.UnknownFlags = true
	flags.Usage = func() {}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, _ = kwoklog.InitFlags(ctx, flags)
	ctx, err := configureKwok(ctx, flags)
	exitOn(err)
	command := kwok.NewCommand(ctx)
	command.PersistentFlags().AddFlagSet(flags)
	command.Version = "" // Kubernetes' libraries define --version already, as no boolean, at which cobra gives up
	exitOn(command.ExecuteContext(ctx))
}

// configureKwok loads kwok's configuration; without --config that is the stages above, which it takes only from a file.
func configureKwok(ctx context.Context, flags *pflag.FlagSet) (context.Context, error) {
	if !strings.Contains(strings.Join(os.Args, " "), "--config") {
		file, err := os.CreateTemp("", "kwok-stages-*.yaml")
		exitOn(err)
		defer os.Remove(file.Name())
		_, err = file.WriteString(strings.Join(kwokStages, "\n---\n"))
		exitOn(err)
		exitOn(file.Close())
		os.Args = append(os.Args, "--config="+file.Name())
	}
	return kwokconfig.InitFlags(ctx, flags)
}

// exitOn ends the process if there is an error.
func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// usage ends the process and names the components there are.
func usage() {
	var names []string
	for name := range cobraComponents {
		names = append(names, name)
	}
	for name := range plainComponents {
		names = append(names, name)
	}
	sort.Strings(names)
	fmt.Fprintf(os.Stderr, "usage: subterra-cluster COMPONENT [flags]\ncomponents: %s\n", strings.Join(names, " "))
	os.Exit(2)
}
