{{/* Pod names are the names of nodes, which have at most 63 characters; the Deployment adds 22. */}}
{{- define "enfilade.fullname" -}}
{{- $release := ternary .Release.Name (printf "%s-enfilade" .Release.Name) (contains "enfilade" .Release.Name) -}}
{{- .Values.fullnameOverride | default $release | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "enfilade.selector" -}}
app.kubernetes.io/name: enfilade
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "enfilade.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "enfilade.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "enfilade.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "enfilade.keys" -}}
{{ .Values.keys.secret | default (printf "%s-keys" (include "enfilade.fullname" .)) }}
{{- end }}

{{/* Which component takes clients. */}}
{{- define "enfilade.front" -}}
{{ ternary "edge" "node" .Values.edge.enabled }}
{{- end }}

{{/* What the schema cannot say. */}}
{{- define "enfilade.check" -}}
{{- if gt (int .Values.nodes.voters) (int .Values.nodes.replicas) -}}
{{- $text := "nodes.voters: %d nodes cannot vote, there are %d (nodes.replicas)" -}}
{{- fail (printf $text (int .Values.nodes.voters) (int .Values.nodes.replicas)) -}}
{{- end -}}
{{- if not (or .Values.config.upstreams .Values.mcpServers) -}}
{{- fail "there is no upstream: give at least one under config.upstreams or mcpServers" -}}
{{- end -}}
{{- $tcp := list .Values.ports.http .Values.ports.link .Values.ports.health -}}
{{- if ne (len ($tcp | uniq)) 3 -}}
{{- fail "ports: http, link and health must differ" -}}
{{- end -}}
{{- $scale := .Values.edge.autoscaling -}}
{{- if and $scale.enabled (gt (int $scale.minReplicas) (int $scale.maxReplicas)) -}}
{{- fail "edge.autoscaling: minReplicas is more than maxReplicas" -}}
{{- end -}}
{{- end }}

{{/* The configuration file of the nodes with the given roles. Arguments: root, roles. */}}
{{- define "enfilade.config" -}}
{{- $root := .root -}}
{{- $name := include "enfilade.fullname" $root -}}
{{- $ns := $root.Release.Namespace -}}
{{- $any := ternary "[::]" "0.0.0.0" $root.Values.ipv6 -}}
{{- $config := omit (deepCopy $root.Values.config) "cluster" "hosts" "servers" "limits" -}}
{{- range $key := list "servers" "limits" -}}
{{- with index $root.Values.config $key }}{{ $_ := set $config $key . }}{{ end -}}
{{- end -}}
{{- $voters := list -}}
{{- range $i := until (int $root.Values.nodes.voters) }}
{{- $voters = append $voters (printf "%s-%d" $name $i) }}
{{- end -}}
{{- $own := dict "roles" .roles "voters" $voters "keys" "/etc/enfilade/keys"
  "seeds" (list (printf "%s-nodes.%s.svc:%d" $name $ns (int $root.Values.ports.gossip))) -}}
{{- $_ := set $config "cluster" (merge $own ($root.Values.config.cluster | default dict) (dict "name" $name)) -}}
{{- $_ := set $config "health" (printf "%s:%d" $any (int $root.Values.ports.health)) -}}
{{- $_ := set $config "data_dir" "/var/lib/enfilade/node" -}}
{{- if has "edge" .roles -}}
{{- $full := printf "%s.%s" $name $ns -}}
{{- $hosts := list $name $full (printf "%s.svc" $full) (printf "%s.svc.cluster.local" $full) -}}
{{- $_ := set $config "listen" (list (dict "address" (printf "%s:%d" $any (int $root.Values.ports.http)))) -}}
{{- $_ := set $config "allow_remote" true -}}
{{- $_ := set $config "hosts" (concat $hosts ($root.Values.config.hosts | default list) | uniq) -}}
{{- end -}}
{{ toYaml $config }}
{{- end }}

{{/* Seconds until a pod is killed: what its calls may take, and the rest of the stop. Arguments: root, roles. */}}
{{- define "enfilade.grace" -}}
{{- $config := .root.Values.config -}}
{{- $ms := ternary (int (dig "drain_ms" 10000 $config)) 0 (has "edge" .roles) -}}
{{- if has "owner" .roles }}{{ $ms = add $ms (int (dig "cluster" "timing" "drain_ms" 60000 $config)) }}{{ end -}}
{{- $drain := .root.Values.drain -}}
{{ add (int $drain.graceSeconds) (div (add $ms 999) 1000) (ternary (int $drain.preStopSeconds) 0 (has "edge" .roles)) }}
{{- end }}

{{- define "enfilade.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.securityContext.user }}
runAsGroup: {{ .Values.securityContext.group }}
# Gives the mounted keys to the group; a node takes them from root only.
fsGroup: {{ .Values.securityContext.group }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "enfilade.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* The pods of a component. Arguments: root, component (node, edge), roles, values. */}}
{{- define "enfilade.pod" -}}
{{- $root := .root -}}
{{- $isFront := has "edge" .roles -}}
metadata:
  labels:
    {{- include "enfilade.selector" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
    {{- with .values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    # A node reads its files at its start only.
    checksum/config: {{ list (include "enfilade.config" .) $root.Values.mcpServers | toJson | sha256sum }}
    {{- with .values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "enfilade.grace" . }}
  securityContext:
    {{- include "enfilade.podSecurity" $root | nindent 4 }}
  {{- with $root.Values.image.pullSecrets }}
  imagePullSecrets: {{ toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: enfilade
      image: {{ include "enfilade.image" $root | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args:
        - --log={{ $root.Values.log.filter }}
        - --log-format={{ $root.Values.log.format }}
        - serve
        - --config=/etc/enfilade/config/{{ .component }}.yaml
        {{- if $root.Values.mcpServers }}
        - --mcp-json=/etc/enfilade/config/mcp.json
        {{- end }}
        - --node=$(POD_NAME)
        {{- $ip := ternary "[$(POD_IP)]" "$(POD_IP)" $root.Values.ipv6 }}
        # Others are told the address that is bound; it is another one after each start.
        - --link={{ $ip }}:{{ $root.Values.ports.link }}
        - --gossip={{ $ip }}:{{ $root.Values.ports.gossip }}
      env:
        - name: POD_NAME
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        - name: POD_IP
          valueFrom: {fieldRef: {fieldPath: status.podIP}}
        {{- with $root.Values.env }}{{ toYaml . | nindent 8 }}{{ end }}
      {{- with $root.Values.envFrom }}
      envFrom: {{ toYaml . | nindent 8 }}
      {{- end }}
      ports:
        {{- if $isFront }}
        - {name: http, containerPort: {{ $root.Values.ports.http }}, protocol: TCP}
        {{- end }}
        - {name: link, containerPort: {{ $root.Values.ports.link }}, protocol: TCP}
        - {name: gossip, containerPort: {{ $root.Values.ports.gossip }}, protocol: UDP}
        - {name: health, containerPort: {{ $root.Values.ports.health }}, protocol: TCP}
      # It answers from the start of the process on, also while the node waits for others to found the cluster.
      livenessProbe:
        httpGet: {path: /healthz, port: health}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: health}
        periodSeconds: 3
        timeoutSeconds: 2
        failureThreshold: 2
      {{- if and $isFront (gt (int $root.Values.drain.preStopSeconds) 0) }}
      # SIGTERM drains by itself; before it, clients are sent elsewhere.
      lifecycle:
        preStop:
          sleep: {seconds: {{ $root.Values.drain.preStopSeconds }}}
      {{- end }}
      resources: {{ toYaml .values.resources | nindent 8 }}
      securityContext:
        {{- include "enfilade.containerSecurity" $root | nindent 8 }}
      volumeMounts:
        - {name: config, mountPath: /etc/enfilade/config, readOnly: true}
        - {name: keys, mountPath: /etc/enfilade/keys, readOnly: true}
        - {name: data, mountPath: /var/lib/enfilade}
        - {name: tmp, mountPath: /tmp}
  volumes:
    - name: config
      secret: {secretName: {{ include "enfilade.fullname" $root }}-config, defaultMode: 0440}
    - name: keys
      secret: {secretName: {{ include "enfilade.keys" $root }}, defaultMode: 0440}
    - name: tmp
      emptyDir: {}
    {{- if eq .component "edge" }}
    # An edge keeps nothing: each start from here is a new node.
    - name: data
      emptyDir: {}
    {{- end }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: {{ .values.spread }}
      labelSelector:
        matchLabels:
          {{- include "enfilade.selector" $root | nindent 10 }}
          app.kubernetes.io/component: {{ .component }}
  {{- with .values.nodeSelector }}
  nodeSelector: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.tolerations }}
  tolerations: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.affinity }}
  affinity: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
{{- end }}

{{/* The roles of the StatefulSet's nodes, as JSON. */}}
{{- define "enfilade.nodeRoles" -}}
{{ ternary (list "owner" "registry") (list "edge" "owner" "registry") .Values.edge.enabled | toJson }}
{{- end }}
