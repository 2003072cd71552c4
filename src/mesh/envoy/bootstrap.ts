export interface BootstrapOptions {
  /** The agent's xDS socket. */
  readonly xdsSocketPath: string
  /** Where Envoy's admin interface listens; a Unix socket, since it has no other protection. */
  readonly adminSocketPath: string
  /** For people: appears in logs on both sides. */
  readonly nodeId: string
}

/**
 * What the node's Envoy is started with, as JSON (which is YAML too). It holds the way to the agent and nothing else: a static cluster
 * whose secrets came over the same stream would crash Envoy 1.40 at start, and everything can come by that stream.
 */
export function envoyBootstrap ({ xdsSocketPath, adminSocketPath, nodeId }: BootstrapOptions): object {
  return {
    node: { id: nodeId, cluster: 'assay' },
    admin: { address: { pipe: { path: adminSocketPath, mode: 0o600 } } },
    dynamic_resources: {
      ads_config: {
        api_type: 'DELTA_GRPC',
        transport_api_version: 'V3',
        set_node_on_first_message_only: true,
        // An agent that comes back is found at once, not after Envoy's usual 15 seconds.
        grpc_services: [{
          envoy_grpc: { cluster_name: 'assay-agent', retry_policy: { retry_back_off: { base_interval: '0.1s', max_interval: '0.5s' } } }
        }]
      },
      lds_config: { resource_api_version: 'V3', ads: {} },
      cds_config: { resource_api_version: 'V3', ads: {} }
    },
    static_resources: {
      clusters: [{
        name: 'assay-agent',
        type: 'STATIC',
        connect_timeout: '1s',
        typed_extension_protocol_options: {
          'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
            '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
            explicit_http_config: { http2_protocol_options: {} }
          }
        },
        load_assignment: {
          cluster_name: 'assay-agent',
          endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path: xdsSocketPath } } } }] }]
        }
      }]
    },
    bootstrap_extensions: [{
      name: 'envoy.bootstrap.internal_listener',
      typed_config: { '@type': 'type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener' }
    }]
  }
}
