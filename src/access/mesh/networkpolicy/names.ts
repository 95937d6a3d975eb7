/** The label that Kubernetes itself puts on each namespace. */
export const NAMESPACE_LABEL = 'kubernetes.io/metadata.name';
