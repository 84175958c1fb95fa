{{- /*
The version of the API that serves MutatingAdmissionPolicies. Without a cluster, helm knows only the versions of its own
libraries; then it is v1, unless helm is given others.
*/ -}}
{{- define "podspan.policyVersion" -}}
{{- $group := "admissionregistration.k8s.io" -}}
{{- if .Values.policy.apiVersion -}}
{{- .Values.policy.apiVersion -}}
{{- else if .Capabilities.APIVersions.Has (printf "%s/v1/MutatingAdmissionPolicy" $group) -}}
v1
{{- else if .Capabilities.APIVersions.Has (printf "%s/v1beta1/MutatingAdmissionPolicy" $group) -}}
v1beta1
{{- else if not (lookup "v1" "Namespace" "" "kube-system") -}}
v1
{{- else -}}
{{- fail "the value way is policy, but the cluster serves no MutatingAdmissionPolicy: set way to webhook, or, on Kubernetes 1.34 and 1.35, the API server's flags that docs/injection.md names" -}}
{{- end -}}
{{- end -}}
