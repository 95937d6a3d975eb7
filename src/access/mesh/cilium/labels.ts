/*
 * Which labels of a pod are part of its identity in Cilium (pkg/labelsfilter of Cilium 1.20, the defaults). A selector that
 * names another label selects nothing, so it must neither protect nor admit anybody.
 */
const KEPT = [
  /^io\.kubernetes\.pod\.namespace/,
  /^io\.cilium\.k8s\.namespace\.labels/,
  /^app\.kubernetes\.io/,
  /^io\.cilium\.k8s\.policy\.cluster/,
  /^io\.cilium\.k8s\.policy\.serviceaccount/,
];
const DROPPED = [
  /^io\.kubernetes/,
  /^kubernetes\.io/,
  /^statefulset\.kubernetes\.io\/pod-name/,
  /^apps\.kubernetes\.io\/pod-index/,
  /^batch\.kubernetes\.io\/job-completion-index/,
  /^batch\.kubernetes\.io\/controller-uid/,
  /^.*beta\.kubernetes\.io/,
  /^k8s\.io/,
  /^pod-template-generation/,
  /^pod-template-hash/,
  /^controller-revision-hash/,
  /^controller-uid/,
  /^annotation.*/,
  /^etcd_node/,
  /^topology\.kubernetes\.io/,
];

/** Whether Cilium compares a label, where its label filter is as it comes. The longest match decides. */
export function isIdentityLabel(key: string): boolean {
  const longest = (patterns: readonly RegExp[]): number =>
    Math.max(...patterns.map((pattern) => pattern.exec(key)?.[0].length ?? 0));
  const dropped = longest(DROPPED);
  return dropped === 0 || longest(KEPT) > dropped;
}

export const NAMESPACE = 'k8s:io.kubernetes.pod.namespace';
export const SERVICE_ACCOUNT = 'k8s:io.cilium.k8s.policy.serviceaccount';
export const NAMESPACE_LABELS = 'k8s:io.cilium.k8s.namespace.labels.';
/** Before the key of a pod's label: of Kubernetes, not of another source. */
export const POD_LABELS = 'k8s:';
