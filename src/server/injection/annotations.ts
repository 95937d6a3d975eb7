/** On a pod: `true` asks for an identity, `false` asks for none whatever its namespace says. */
export const INJECT_LABEL = 'signet.dev/inject';
/** Forms in which the identity is written as files, as the volume attribute `files`. */
export const FILES_ANNOTATION = 'signet.dev/inject-files';
/** Where the volume is seen in each container. */
export const MOUNT_PATH_ANNOTATION = 'signet.dev/inject-mount-path';
/** `true` asks for a proxy beside the program. */
export const PROXY_ANNOTATION = 'signet.dev/inject-proxy';
/** e.g. `8443:8080,9443:9000/http2`: ports of the pod, each with the program's port. */
export const INBOUND_ANNOTATION = 'signet.dev/proxy-inbound';
/** e.g. `9001=payments.shop.svc:8443=spiffe://example.org/ns/shop/sa/payments`. */
export const OUTBOUND_ANNOTATION = 'signet.dev/proxy-outbound';
/** `filters` or `service`. */
export const AUTHORIZATION_ANNOTATION = 'signet.dev/proxy-authorization';

/** `true` has the pod's packet filter lead callers to the proxy, wherever the program listens. */
export const CAPTURE_ANNOTATION = 'signet.dev/proxy-capture';
/** `false` leaves probes of proxied ports as they are. */
export const REWRITE_PROBES_ANNOTATION = 'signet.dev/rewrite-probes';

export const INJECTION_ANNOTATIONS: readonly string[] = [
  FILES_ANNOTATION,
  MOUNT_PATH_ANNOTATION,
  PROXY_ANNOTATION,
  INBOUND_ANNOTATION,
  OUTBOUND_ANNOTATION,
  AUTHORIZATION_ANNOTATION,
  CAPTURE_ANNOTATION,
  REWRITE_PROBES_ANNOTATION,
];
