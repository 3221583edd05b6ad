{{/* Forgets nothing and evicts nothing; and its only user may do what Spillway does and no more (README, The store). */}}
{{- define "spillway.valkeyConf" -}}
bind * -::*
protected-mode no
port 6379
dir /data
save ""
appendonly {{ ternary "yes" "no" .Values.valkey.persistence.enabled }}
appendfsync everysec
maxmemory-policy noeviction
tcp-keepalive 60
{{- if not .Values.valkey.auth.existingSecret }}
user default on nopass {{ include "spillway.valkeyAcl" . }}
{{- end }}
{{- end -}}

{{- define "spillway.valkeyAcl" -}}
resetkeys ~{spillway}:* resetchannels -@all +@hash +@set +@sortedset -@dangerous +get +set +incrby +bitfield +exists +del +expire +pexpire +pexpireat +ttl +rename +eval +time +info +select +command
{{- end -}}
