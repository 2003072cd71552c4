/** The identities of `envoy-configs/client-node.yaml` and `envoy-configs/server-node.yaml`. */
export const trustDomain = 'example.org'
export const ids = {
  web: 'spiffe://example.org/web',
  batch: 'spiffe://example.org/batch',
  backend: 'spiffe://example.org/backend'
} as const
