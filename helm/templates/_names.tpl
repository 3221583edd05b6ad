{{/* What things are called, and the labels that hold them together. */}}

{{- define "spillway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/*
45 characters leave a StatefulSet's `-valkey` the 52 that its revisions' label allows, and `-dashboard-routing` 63. Of a
longer name a digest tells it from others that begin as it does. Dots, which a release's name may have, are none of a Service's.
*/}}
{{- define "spillway.fullname" -}}
{{- $name := include "spillway.name" . -}}
{{- $release := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- $full := default $release .Values.fullnameOverride | replace "." "-" -}}
{{- if gt (len $full) 45 -}}
{{- $full = printf "%s-%s" (trunc 36 $full | trimSuffix "-") (sha256sum $full | trunc 8) -}}
{{- end -}}
{{- $full | trimSuffix "-" -}}
{{- end -}}

{{/*
Of a Role in a namespace: `include "spillway.roleName" (list . $namespace)`. In a namespace of others, where a release of the
same name in another namespace may have one too, it begins with ours; a namespace has no dot, so no two are the same.
*/}}
{{- define "spillway.roleName" -}}
{{- $root := first . -}}
{{- if ne (last .) $root.Release.Namespace }}{{ $root.Release.Namespace }}.{{ end -}}
{{ include "spillway.fullname" $root }}
{{- end -}}

{{- define "spillway.serviceAccountName" -}}
{{- default (ternary (include "spillway.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{/* Of a component: `include "spillway.selector" (list . "proxy")`. */}}
{{- define "spillway.selector" -}}
{{- $root := first . -}}
app.kubernetes.io/name: {{ include "spillway.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ last . }}
{{- end -}}

{{- define "spillway.labels" -}}
{{- $root := first . -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{ include "spillway.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Of pods: nothing that changes with the chart or with another component, or they would be restarted for it. */}}
{{- define "spillway.podLabels" -}}
{{- include "spillway.selector" . }}
{{- with (first .).Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* `include "spillway.image" (list .Values.image .Chart.AppVersion)`. */}}
{{- define "spillway.image" -}}
{{- $image := first . -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default (last .) $image.tag }}
{{- end -}}
{{- end -}}
