{{/*
The model repository, mounted at /models: from a claim as it is, from an object store or an image as a copy. What copies
it has the volume elsewhere, because it would hide the folder of that name in an image.
*/}}

{{- define "perception.modelVolume" -}}
- name: models
  {{- with .Values.modelRepository }}
  {{- if eq .source "persistentVolumeClaim" }}
  persistentVolumeClaim:
    claimName: {{ .persistentVolumeClaim.claimName }}
    readOnly: true
  {{- else }}
  emptyDir: {sizeLimit: {{ .sizeLimit }}}
  {{- end }}
  {{- end }}
{{- end -}}

{{- define "perception.modelMount" -}}
- name: models
  mountPath: /models
  readOnly: true
  {{- with .Values.modelRepository }}
  {{- if and (eq .source "persistentVolumeClaim") .persistentVolumeClaim.subPath }}
  subPath: {{ .persistentVolumeClaim.subPath }}
  {{- end }}
  {{- end }}
{{- end -}}

{{- define "perception.modelInitContainers" -}}
{{- $repository := .Values.modelRepository -}}
{{- if ne $repository.source "persistentVolumeClaim" }}
initContainers:
  - name: model-repository
    {{- if eq $repository.source "image" }}
    {{- with $repository.image }}
    image: {{ include "perception.image" (dict "root" $ "image" .) }}
    imagePullPolicy: {{ .pullPolicy }}
    command: [cp, -R, {{ printf "%s/." (trimSuffix "/" .path) | quote }}, /model-repository]
    {{- end }}
    {{- else }}
    {{- with $repository.objectStore }}
    image: {{ include "perception.image" (dict "root" $ "image" .image) }}
    imagePullPolicy: {{ .image.pullPolicy }}
    # Checksums are compared; a copy that breaks off is tried again, and fails the Pod in the end.
    command: [rclone]
    args: [copy, --checksum, --retries=5, --retries-sleep=2s, --stats=10s, --stats-one-line, --verbose, {{ .source | quote }}, /model-repository]
    env:
      - {name: HOME, value: /tmp}
      {{- include "perception.environment" .environment | trim | nindent 6 }}
    {{- with .credentialsSecret }}
    envFrom:
      - secretRef: {name: {{ . }}}
    {{- end }}
    {{- end }}
    {{- end }}
    securityContext:
      {{- include "perception.containerSecurity" . | nindent 6 }}
    resources:
      requests: {cpu: 100m, memory: 128Mi}
      limits: {memory: 512Mi}
    volumeMounts:
      - {name: models, mountPath: /model-repository}
      {{- include "perception.scratchMount" . | nindent 6 }}
{{- end }}
{{- end -}}

{{/*
Triton's Pods look at every file before Triton does. A repository that is not the one that was built ends the container,
whose log names the file, and so the update: the old Pods go on.
*/}}
{{- define "perception.modelVerification" -}}
- name: model-verification
  image: {{ include "perception.image" (dict "root" . "image" .Values.triton.image) }}
  imagePullPolicy: {{ .Values.triton.image.pullPolicy }}
  workingDir: /models
  command: [sha256sum, --check, --strict, --quiet, SHA256SUMS]
  securityContext:
    {{- include "perception.containerSecurity" . | nindent 4 }}
  resources:
    requests: {cpu: 100m, memory: 64Mi}
    limits: {memory: 256Mi}
  volumeMounts:
    {{- include "perception.modelMount" . | nindent 4 }}
{{- end -}}
