{{/*
TLS between the services, and who may call. Certificates, tokens and keys come from Secrets and are mounted as folders, so
that a renewed one arrives. Each takes a workload: root, component, pool, agent, spec.
*/}}

{{/* The Secret with certificate, key and CA. */}}
{{- define "perception.tlsSecret" -}}
{{- .Values.tls.secretName | default (printf "%s-tls" (include "perception.fullname" .)) -}}
{{- end -}}

{{/* Whether a service asks its callers for a certificate: `required` or `off`. */}}
{{- define "perception.clientAuthentication" -}}
{{- $tls := .root.Values.tls -}}
{{- $asks := and $tls.mutual (or $tls.mutualAtGateway (ne .component "gateway")) -}}
{{- ternary "required" "off" $asks -}}
{{- end -}}

{{- define "perception.tlsEnvironment" -}}
{{- if .root.Values.tls.enabled }}
- {name: TLS_CERTIFICATE_FILE, value: /etc/perception-tls/tls.crt}
- {name: TLS_KEY_FILE, value: /etc/perception-tls/tls.key}
- {name: TLS_CA_FILE, value: /etc/perception-tls/ca.crt}
{{- if not (has .component (list "viewer" "test")) }}
- {name: TLS_CLIENT_AUTHENTICATION, value: {{ include "perception.clientAuthentication" . | quote }}}
- {name: HEALTH_PORT, value: {{ include "perception.probePort" . | quote }}}
{{- end }}
{{- end }}
{{- end -}}

{{/* Where the kubelet asks for gRPC health: its probes speak no TLS, so with TLS it has a port of its own. */}}
{{- define "perception.probePort" -}}
{{- $port := include "perception.grpcPort" .component | int -}}
{{- ternary (add $port 1) $port .root.Values.tls.enabled -}}
{{- end -}}

{{/* What the gateway and the viewer ask of their callers. */}}
{{- define "perception.authenticationEnvironment" -}}
{{- with .root.Values.authentication -}}
{{- if .enabled }}
- {name: AUTHENTICATION, value: required}
{{- if .tokensSecret }}
- {name: AUTHENTICATION_TOKENS_FILE, value: /etc/perception-authentication/tokens.yaml}
{{- end }}
{{- if or .jwks.url .jwks.configMap }}
- {name: AUTHENTICATION_JWKS, value: {{ .jwks.url | default "/etc/perception-authentication/jwks.json" | quote }}}
- {name: AUTHENTICATION_ISSUER, value: {{ .jwks.issuer | quote }}}
- {name: AUTHENTICATION_AUDIENCE, value: {{ .jwks.audience | quote }}}
{{- end }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* The Secret with the token that a workload shows the gateway; empty for none. */}}
{{- define "perception.tokenSecret" -}}
{{- if and .root.Values.authentication.enabled (has .component (list "camera" "viewer" "test")) -}}
{{- (.spec | default dict).tokenSecret | default .root.Values.authentication.callerTokenSecret -}}
{{- end -}}
{{- end -}}

{{- define "perception.tokenEnvironment" -}}
{{- if include "perception.tokenSecret" . }}
- {name: TOKEN_FILE, value: /etc/perception-token/token}
{{- end }}
{{- end -}}

{{/* All of it that a process of ours is told. */}}
{{- define "perception.securityEnvironment" -}}
{{- include "perception.tlsEnvironment" . }}
{{- if has .component (list "gateway" "viewer") }}
{{- include "perception.authenticationEnvironment" . }}
{{- end }}
{{- include "perception.tokenEnvironment" . }}
{{- end -}}

{{/* Whether a workload reads tokens or keys from files. */}}
{{- define "perception.readsCallers" -}}
{{- $values := .root.Values.authentication -}}
{{- if and $values.enabled (has .component (list "gateway" "viewer")) (or $values.tokensSecret $values.jwks.configMap) -}}true{{- end -}}
{{- end -}}

{{- define "perception.securityMounts" -}}
{{- if .root.Values.tls.enabled }}
- {name: tls, mountPath: /etc/perception-tls, readOnly: true}
{{- end }}
{{- if include "perception.readsCallers" . }}
- {name: authentication, mountPath: /etc/perception-authentication, readOnly: true}
{{- end }}
{{- if include "perception.tokenSecret" . }}
- {name: token, mountPath: /etc/perception-token, readOnly: true}
{{- end }}
{{- end -}}

{{/* Read by the Pod's group, which is the process's own. */}}
{{- define "perception.securityVolumes" -}}
{{- if .root.Values.tls.enabled }}
- name: tls
  secret: {secretName: {{ include "perception.tlsSecret" .root }}, defaultMode: 0440}
{{- end }}
{{- if include "perception.readsCallers" . }}
{{- with .root.Values.authentication }}
- name: authentication
  projected:
    defaultMode: 0440
    sources:
      {{- with .tokensSecret }}
      - secret: {name: {{ . }}, items: [{key: tokens.yaml, path: tokens.yaml}]}
      {{- end }}
      {{- with .jwks.configMap }}
      - configMap: {name: {{ . }}, items: [{key: jwks.json, path: jwks.json}]}
      {{- end }}
{{- end }}
{{- end }}
{{- with include "perception.tokenSecret" . }}
- name: token
  secret: {secretName: {{ . }}, defaultMode: 0440, items: [{key: token, path: token}]}
{{- end }}
{{- end -}}
