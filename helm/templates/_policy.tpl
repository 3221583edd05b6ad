{{/*
What the policy reaches, read from its text, so that Roles and network policies follow it and nobody keeps two lists.

`spillway.reach` answers as JSON:
  services    [{namespace, port}]   inside the cluster; port 0 stands for any
  addresses   [{cidr, port}]        written as addresses
  public      [{host, port}]        names outside; host "" is a provider whose address the chart does not know
  private     [{host, port}]        names that only a private network knows: `gpu.internal`
  slices      [namespace]           whose EndpointSlices are read
  scales      [{namespace, resource, name}]   what is woken
  hidden      [text]                what cannot be known: a URL out of the environment
*/}}

{{/* The policy's files, by name: the ConfigMap's data. Empty where the ConfigMap is not ours. */}}
{{- define "spillway.policyFiles" -}}
{{- $policy := .Values.policy -}}
{{- if $policy.existingConfigMap -}}
{}
{{- else if $policy.files -}}
{{ toJson $policy.files }}
{{- else -}}
{{ toJson (dict "policy.yaml" (default (.Files.Get "files/policy.yaml") $policy.text)) }}
{{- end -}}
{{- end -}}

{{/* The policy as one mapping, from all files together; tests of the policy are none of them. */}}
{{- define "spillway.policy" -}}
{{- $policy := dict -}}
{{- range $name, $text := include "spillway.policyFiles" . | fromJson -}}
  {{- if not (regexMatch "\\.test\\.ya?ml$" $name) -}}
    {{- $document := fromYaml $text -}}
    {{- if and (hasKey $document "Error") (not (hasKey $document "version")) -}}
      {{- fail (printf "policy file `%s` is not YAML: %s" $name $document.Error) -}}
    {{- end -}}
    {{- $policy = merge $policy $document -}}
  {{- end -}}
{{- end -}}
{{- if not (or .Values.policy.existingConfigMap $policy.tenants $policy.auth) -}}
  {{- fail "policy: it has no `tenants`, so pods would refuse to listen: add `tenants: {apps: {keys: []}}` for keys out of Secrets, or say `auth: none`" -}}
{{- end -}}
{{- toJson $policy -}}
{{- end -}}

{{- define "spillway.reach" -}}
{{- $reach := dict "services" list "addresses" list "public" list "private" list "slices" list "scales" list "hidden" list -}}
{{- $providers := .Files.Get "files/providers.yaml" | fromYaml -}}
{{- range $name, $target := (include "spillway.policy" . | fromJson).targets -}}
  {{- if not (kindIs "map" $target) -}}
    {{- fail (printf "policy: target `%s` is no mapping" $name) -}}
  {{- end -}}
  {{- $given := dict "root" $ "reach" $reach "what" (printf "target `%s`" $name) -}}
  {{- range compact (concat (list $target.url) (default list $target.urls)) -}}
    {{- include "spillway.reach.url" (merge (dict "url" .) $given) -}}
  {{- end -}}
  {{- with $target.dns -}}
    {{- include "spillway.reach.url" (merge (dict "url" (printf "http://%s" .)) $given) -}}
  {{- end -}}
  {{- with $target.kubernetes -}}
    {{- include "spillway.reach.known" (list $given.what .namespace) -}}
    {{- $port := ternary .port 0 (kindIs "float64" .port) -}}
    {{- $_ := set $reach "services" (append $reach.services (dict "namespace" .namespace "port" (int $port))) -}}
    {{- $_ := set $reach "slices" (append $reach.slices .namespace) -}}
  {{- end -}}
  {{- if and (eq (toString $target.lane) "shared") (not $target.url) -}}
    {{- $url := get $providers (toString $target.provider) -}}
    {{- if $url -}}
      {{- include "spillway.reach.url" (merge (dict "url" $url) $given) -}}
    {{- else -}}
      {{- $_ := set $reach "public" (append $reach.public (dict "host" "" "port" 443)) -}}
    {{- end -}}
  {{- end -}}
  {{- with $target.wake -}}
    {{- with .url -}}
      {{- include "spillway.reach.url" (merge (dict "url" .) $given) -}}
    {{- end -}}
    {{- with .kubernetes -}}
      {{- include "spillway.reach.known" (list $given.what .namespace .deployment .statefulset) -}}
      {{- include "spillway.reach.scale" (dict "reach" $reach "scaled" .) -}}
    {{- end -}}
  {{- end -}}
  {{- $replicas := dig "replicas" "" (default dict $target.gpus) -}}
  {{- if kindIs "map" $replicas -}}
    {{- with $replicas.kubernetes -}}
      {{- include "spillway.reach.known" (list $given.what .namespace) -}}
      {{- $_ := set $reach "slices" (append $reach.slices .namespace) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- with .Values.otel.endpoint -}}
  {{- include "spillway.reach.url" (dict "root" $ "reach" $reach "what" "`otel.endpoint`" "url" .) -}}
{{- end -}}
{{- range .Values.policy.reach.urls -}}
  {{- include "spillway.reach.url" (dict "root" $ "reach" $reach "what" "`policy.reach.urls`" "url" .) -}}
{{- end -}}
{{- $_ := set $reach "slices" (concat $reach.slices .Values.policy.reach.endpointSlices | uniq | sortAlpha) -}}
{{- range .Values.policy.reach.scales -}}
  {{- include "spillway.reach.scale" (dict "reach" $reach "scaled" .) -}}
{{- end -}}
{{- range $kind := list "services" "addresses" "public" "private" "scales" "hidden" -}}
  {{- $_ := set $reach $kind (uniq (get $reach $kind)) -}}
{{- end -}}
{{- toJson $reach -}}
{{- end -}}

{{/* Notes in `reach` where `url` leads. */}}
{{- define "spillway.reach.url" -}}
{{- if contains "${" .url -}}
  {{- $_ := set .reach "hidden" (append .reach.hidden (printf "%s: `%s`" .what .url)) -}}
{{- else -}}
  {{- $parts := urlParse .url -}}
  {{- $port := regexFind ":[0-9]+$" $parts.host | trimPrefix ":" | default (ternary "443" "80" (eq $parts.scheme "https")) -}}
  {{- $host := lower $parts.hostname | trimSuffix "." -}}
  {{- include "spillway.reach.host" (dict "root" .root "reach" .reach "host" $host "port" (int $port) "clear" (eq $parts.scheme "http")) -}}
{{- end -}}
{{- end -}}

{{/* The same of a host. Two labels in clear text are taken for `service.namespace`: nothing public is asked that way. */}}
{{- define "spillway.reach.host" -}}
{{- $inside := .host | trimSuffix (printf ".%s" .root.Values.clusterDomain) -}}
{{- $labels := splitList "." (trimSuffix ".svc" $inside) -}}
{{- if or (eq .host "localhost") (hasSuffix ".localhost" .host) (hasPrefix "127." .host) (eq .host "::1") -}}
{{- else if regexMatch "^[0-9.]+$" .host -}}
  {{- $_ := set .reach "addresses" (append .reach.addresses (dict "cidr" (printf "%s/32" .host) "port" .port)) -}}
{{- else if contains ":" .host -}}
  {{- $_ := set .reach "addresses" (append .reach.addresses (dict "cidr" (printf "%s/128" .host) "port" .port)) -}}
{{- else if eq (len (splitList "." .host)) 1 -}}
  {{- $_ := set .reach "services" (append .reach.services (dict "namespace" .root.Release.Namespace "port" .port)) -}}
{{- else if or (hasSuffix ".svc" $inside) (and .clear (eq (len $labels) 2) (not (hasSuffix ".internal" .host)) (not (hasSuffix ".local" .host)) (not (hasSuffix ".lan" .host))) -}}
  {{- $_ := set .reach "services" (append .reach.services (dict "namespace" (last $labels) "port" .port)) -}}
{{- else if regexMatch "\\.(internal|local|lan|home\\.arpa)$" .host -}}
  {{- $_ := set .reach "private" (append .reach.private (dict "host" .host "port" .port)) -}}
{{- else -}}
  {{- $_ := set .reach "public" (append .reach.public (dict "host" .host "port" .port)) -}}
{{- end -}}
{{- end -}}

{{/* Refuses names that stand in the environment: `list what name...`. A Role is made for what is written. */}}
{{- define "spillway.reach.known" -}}
{{- $what := first . -}}
{{- range rest . -}}
{{- if contains "${" (toString .) -}}
{{- fail (printf "policy: which one does %s mean by `%s`? Its Role is made for what is written: write it out" $what .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Notes a workload that is scaled: `{namespace, deployment | statefulset}`. */}}
{{- define "spillway.reach.scale" -}}
{{- $resource := ternary "deployments" "statefulsets" (hasKey .scaled "deployment") -}}
{{- $name := default .scaled.statefulset .scaled.deployment -}}
{{- $_ := set .reach "scales" (append .reach.scales (dict "namespace" .scaled.namespace "resource" $resource "name" $name)) -}}
{{- end -}}

{{/* Not empty when the policy asks the API server for anything. */}}
{{- define "spillway.asksApiServer" -}}
{{- $reach := include "spillway.reach" . | fromJson -}}
{{- if or $reach.slices $reach.scales -}}yes{{- end -}}
{{- end -}}
