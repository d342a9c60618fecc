#!/bin/sh
# Promotes by a commit: writes the artifact of what staging's agent serves into production's file, and commits that.
#
#   gitops/promote.sh AGENT STAGING_NAMESPACE FILE
#
# Needs kubectl with a kubeconfig of staging, and git. It pushes nothing: that is yours, or your pull request's.
set -eu
agent=$1 namespace=$2 file=$3

told() { kubectl get compiledagent "$agent" --namespace "$namespace" --output "jsonpath={.status.$1}"; }

uri=$(told exported.uri) digest=$(told exported.modelDigest) run=$(told exported.run) serving=$(told serving.modelDigest)
if [ -z "$uri" ] || [ "$digest" != "$serving" ]; then
    echo "CompiledAgent $agent serves ${serving:-nothing}, and ${digest:-no model} was exported; see its condition Exported:" >&2
    told 'conditions[?(@.type=="Exported")].message' >&2
    exit 1
fi
sed -e "s|^\( *uri: \)oci://.*|\1$uri|" -e "s|^\( *digest: \)sha256:.*|\1$digest|" "$file" > "$file.new"
mv "$file.new" "$file"
if ! grep -qF "$uri" "$file" || ! grep -qF "$digest" "$file"; then
    echo "$file has no lines 'uri: oci://…' and 'digest: sha256:…' below spec.model; write them once" >&2
    exit 1
fi
if git -C "$(dirname "$file")" diff --quiet -- "$(basename "$file")"; then
    echo "$file promotes $run already"
    exit 0
fi
git -C "$(dirname "$file")" commit --quiet --message "Promote $agent to the model of run $run" -- "$(basename "$file")"
echo "committed: $file serves the model of run $run, $uri"
