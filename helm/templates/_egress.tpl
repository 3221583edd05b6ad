{{/*
Where pods of ours may go: the rules of a NetworkPolicy, from what the policy reaches.

Ports are those of URLs. A network plugin sees the pod's port, so a Service that forwards 80 to 8000 is written with 8000,
or has a rule of its own in `networkPolicy.extraEgress`.
*/}}
{{- define "spillway.egress" -}}
{{- $wall := .Values.networkPolicy -}}
{{- $reach := include "spillway.reach" . | fromJson -}}
{{- if and $reach.hidden (not $wall.extraEgress) -}}
{{- fail (printf "networkPolicy: where does %s lead? Write the URL out, or allow it in `networkPolicy.extraEgress`" (first $reach.hidden)) -}}
{{- end -}}
{{- if and .Values.policy.existingConfigMap (not .Values.policy.reach.urls) (not $wall.extraEgress) -}}
{{- fail "policy.reach.urls: the chart cannot read an existing ConfigMap: list the base URLs that its policy reaches" -}}
{{- end -}}
{{/* Names are looked up. */}}
- to: {{- toYaml $wall.dns | nindent 4 }}
  ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]
{{/* The store. */}}
{{- include "spillway.egress.store" . }}
{{/* Engines, and whatever else is inside the cluster. */}}
{{- $namespaces := list }}
{{- range $reach.services }}{{ $namespaces = append $namespaces .namespace }}{{ end }}
{{- range $namespace := uniq $namespaces | sortAlpha }}
{{- $ports := list }}
{{- range $reach.services }}{{ if eq .namespace $namespace }}{{ $ports = append $ports (int .port) }}{{ end }}{{ end }}
- to:
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: {{ $namespace }}}}
  {{- if not (has 0 $ports) }}
  ports: {{- include "spillway.ports" $ports | nindent 4 }}
  {{- end }}
{{- end }}
{{- range $reach.addresses }}
- to: [{ipBlock: {cidr: {{ .cidr }}}}]
  ports: {{- include "spillway.ports" (list .port) | nindent 4 }}
{{- end }}
{{- if not $wall.cilium.enabled }}
{{- $ports := list }}
{{- range $reach.private }}{{ $ports = append $ports (int .port) }}{{ end }}
{{- with $ports }}
- to: {{- include "spillway.privateBlocks" $ | nindent 4 }}
  ports: {{- include "spillway.ports" . | nindent 4 }}
{{- end }}
{{- $ports := list }}
{{- range $reach.public }}{{ $ports = append $ports (int .port) }}{{ end }}
{{- with $ports }}
- to:
    {{- if $wall.providerCidrs }}
    {{- include "spillway.blocks" $wall.providerCidrs | nindent 4 }}
    {{- else }}
    {{- include "spillway.anywherePublic" $ | nindent 4 }}
    {{- end }}
  ports: {{- include "spillway.ports" . | nindent 4 }}
{{- end }}
{{- end }}
{{- if or $reach.slices $reach.scales }}
- to: {{- include "spillway.blocks" $wall.apiServerCidrs | nindent 4 }}
  ports: {{- include "spillway.ports" $wall.apiServerPorts | nindent 4 }}
{{- end }}
{{- with $wall.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The servers of the store: the chart's own, or those of the URL. */}}
{{- define "spillway.egress.store" -}}
{{- if .Values.valkey.enabled }}
- to:
    - podSelector:
        matchLabels: {{- include "spillway.selector" (list . "valkey") | nindent 10 }}
  ports: [{protocol: TCP, port: 6379}]
{{- else -}}
{{- $store := .Values.redis.external -}}
{{- $hosts := $store.hosts -}}
{{- $sentinel := contains "+sentinel" $store.url -}}
{{- if and $store.url (not $hosts) -}}
{{- $hosts = regexReplaceAll "^[a-z+]+://([^@/]*@)?|[/?].*$" (regexReplaceAll "(//[^/?]*).*" $store.url "${1}") "" | splitList "," -}}
{{- end -}}
{{- if not $hosts -}}
{{- fail "redis.external.hosts: the network policy has to know the servers of a URL that is in a Secret: list them as `host:port`" -}}
{{- end -}}
{{- $reach := dict "services" list "addresses" list "public" list "private" list "hidden" list -}}
{{- range $hosts -}}
{{- $port := regexFind ":[0-9]+$" . | trimPrefix ":" | default (ternary "26379" "6379" $sentinel) | int -}}
{{- $host := regexReplaceAll ":[0-9]+$" . "" | trimPrefix "[" | trimSuffix "]" | lower -}}
{{- range ternary (list $port 6379) (list $port) $sentinel | uniq -}}
{{- include "spillway.reach.host" (dict "root" $ "reach" $reach "host" $host "port" . "clear" true) -}}
{{- end -}}
{{- end }}
{{- range uniq $reach.services }}
- to:
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: {{ .namespace }}}}
  ports: {{- include "spillway.ports" (list .port) | nindent 4 }}
{{- end }}
{{- range uniq $reach.addresses }}
- to: [{ipBlock: {cidr: {{ .cidr }}}}]
  ports: {{- include "spillway.ports" (list .port) | nindent 4 }}
{{- end }}
{{- range uniq (concat $reach.private $reach.public) }}
{{- /* A managed store has a name of its provider's, and a private address. */}}
- to: {{- include "spillway.privateBlocks" $ | nindent 4 }}
  ports: {{- include "spillway.ports" (list .port) | nindent 4 }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "spillway.ports" -}}
{{- $ports := list -}}
{{- range . }}{{ $ports = append $ports (int .) }}{{ end -}}
{{- range uniq $ports }}
- {protocol: TCP, port: {{ . }}}
{{- end }}
{{- end -}}

{{/* A rule without peers would mean everybody, so there is none without. */}}
{{- define "spillway.blocks" -}}
{{- if not . -}}
{{- fail "networkPolicy: the policy needs addresses of `privateCidrs` or `apiServerCidrs`, and that list has none to offer" -}}
{{- end -}}
{{- range . }}
- ipBlock: {cidr: {{ . | quote }}}
{{- end }}
{{- end -}}

{{/* Where private names may be: nothing that is asked for is link-local, but a cloud's metadata service is. */}}
{{- define "spillway.privateBlocks" -}}
{{- $blocks := list -}}
{{- range .Values.networkPolicy.privateCidrs -}}
{{- if not (regexMatch "^(169\\.254\\.|[fF][eE][89abAB])" .) }}{{ $blocks = append $blocks . }}{{ end -}}
{{- end -}}
{{- include "spillway.blocks" $blocks -}}
{{- end -}}

{{- define "spillway.anywherePublic" -}}
{{- $four := list -}}{{- $six := list -}}
{{- range .Values.networkPolicy.privateCidrs -}}
{{- if contains ":" . }}{{ $six = append $six . }}{{ else }}{{ $four = append $four . }}{{ end -}}
{{- end }}
- ipBlock:
    cidr: 0.0.0.0/0
    except: {{- toYaml $four | nindent 6 }}
- ipBlock:
    cidr: "::/0"
    except: {{- toYaml $six | nindent 6 }}
{{- end -}}
