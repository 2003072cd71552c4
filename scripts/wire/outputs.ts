/** One generated file: the packages whose messages it holds, and what of them is wanted. */
export interface Output {
  readonly file: string
  readonly packages: readonly string[]
  /** Proto files to load. */
  readonly protos: readonly string[]
  /** Messages to generate besides what the services and other outputs reach; `*`: everything in the packages. */
  readonly messages: readonly string[]
  /** Full name of a service → what we call it. */
  readonly services: Readonly<Record<string, string>>
}

/** Groups are loaded apart: the bare names of the Workload API would hide equal names inside packages. */
export const groups: ReadonlyArray<readonly Output[]> = [
  [
    api('workload', '', ['spiffe/workload/workload.proto'], { SpiffeWorkloadAPI: 'workload' })
  ],
  [
    api('broker', 'spiffe.broker', ['spiffe/broker/api.proto'], { 'spiffe.broker.API': 'broker' }),
    api('broker-reference', 'assay.broker.v1', ['assay/broker/v1/reference.proto'], {}),
    api('types', 'spire.api.types', ['selector', 'witsvid', 'attestation', 'agent', 'x509svid', 'federationrelationship', 'federateswith',
      'jwtsvid', 'jointoken', 'bundle', 'entry', 'spiffeid', 'status', 'logger'].map(name => `spire/api/types/${name}.proto`), {}),
    server('agent', 'Agent', 'agent'),
    server('bundle', 'Bundle', 'bundle'),
    server('debug', 'Debug', 'debug'),
    server('entry', 'Entry', 'entry'),
    server('localauthority', 'LocalAuthority', 'localAuthority'),
    server('logger', 'Logger', 'logger'),
    server('svid', 'SVID', 'svid'),
    server('trustdomain', 'TrustDomain', 'trustDomain'),
    api('assay-types', 'assay.types.v1', ['assay/types/v1/service.proto', 'assay/types/v1/policy.proto'], {}),
    api('agent-sync', 'assay.agent.v1', ['sync', 'mesh', 'decisions'].map(name => `assay/agent/v1/${name}.proto`),
      { 'assay.agent.v1.AgentSync': 'agentSync', 'assay.agent.v1.Mesh': 'mesh', 'assay.agent.v1.Decisions': 'decisions' }),
    api('cluster', 'assay.server.v1', ['cluster', 'services'].map(name => `assay/server/v1/${name}.proto`),
      { 'assay.server.v1.Cluster': 'cluster', 'assay.server.v1.ServiceRegistry': 'serviceRegistry' }),
    api('revocation', 'assay.server.revocation.v1', ['assay/server/revocation/v1/revocation.proto'],
      { 'assay.server.revocation.v1.Revocation': 'revocation' }),
    api('federation', 'assay.server.federation.v1', ['assay/server/federation/v1/federation.proto'],
      { 'assay.server.federation.v1.Federation': 'federation' }),
    api('policy', 'assay.server.policy.v1', ['assay/server/policy/v1/policy.proto'], { 'assay.server.policy.v1.Policy': 'policy' }),
    api('agent-debug', 'spire.agent.debug.v1', ['spire/api/agent/debug/v1/debug.proto'], { 'spire.agent.debug.v1.Debug': 'debug' }),
    api('agent-logger', 'spire.api.agent.logger.v1', ['spire/api/agent/logger/v1/logger.proto'],
      { 'spire.api.agent.logger.v1.Logger': 'logger' }),
    api('delegated-identity', 'spire.api.agent.delegatedidentity.v1', ['spire/api/agent/delegatedidentity/v1/delegatedidentity.proto'],
      { 'spire.api.agent.delegatedidentity.v1.DelegatedIdentity': 'delegatedIdentity' }),
    api('health', 'grpc.health.v1', ['grpc/health/v1/health.proto'], { 'grpc.health.v1.Health': 'health' }),
    api('reflection', 'grpc.reflection.v1', ['grpc/reflection/v1/reflection.proto'],
      { 'grpc.reflection.v1.ServerReflection': 'reflection' }),
    api('reflection-alpha', 'grpc.reflection.v1alpha', ['grpc/reflection/v1alpha/reflection.proto'],
      { 'grpc.reflection.v1alpha.ServerReflection': 'reflectionAlpha' }),
    api('csi', 'csi.v1', ['csi/v1/csi.proto'], { 'csi.v1.Identity': 'csiIdentity', 'csi.v1.Node': 'csiNode' }),
    api('kubelet-registration', 'pluginregistration', ['kubernetes/pluginregistration/v1/api.proto'],
      { 'pluginregistration.Registration': 'kubeletRegistration' }),
    api('go-plugin', 'plugin', ['goplugin/plugin.proto'],
      { 'plugin.GRPCBroker': 'goPluginBroker', 'plugin.GRPCController': 'goPluginController', 'plugin.GRPCStdio': 'goPluginStdio' }),
    api('plugin-init', 'spire.service.private.init.v1', ['spire/service/private/init/v1/init.proto'],
      { 'spire.service.private.init.v1.Init': 'pluginInit' }),
    api('plugin-config', 'spire.service.common.config.v1', ['spire/service/common/config/v1/config.proto'],
      { 'spire.service.common.config.v1.Config': 'pluginConfig' }),
    api('plugin-types', 'spire.plugin.types', ['spire/plugin/types/bundle.proto'], {}),
    plugin('agent', 'NodeAttestor', 'agentNodeAttestor'),
    plugin('agent', 'WorkloadAttestor', 'workloadAttestor'),
    plugin('agent', 'SVIDStore', 'svidStore'),
    plugin('server', 'NodeAttestor', 'serverNodeAttestor'),
    plugin('server', 'UpstreamAuthority', 'upstreamAuthority'),
    plugin('server', 'KeyManager', 'keyManager'),
    plugin('server', 'Notifier', 'notifier'),
    plugin('server', 'BundlePublisher', 'bundlePublisher'),
    plugin('server', 'CredentialComposer', 'credentialComposer'),
    hostService('server', 'AgentStore', 'agentStore'),
    hostService('server', 'IdentityProvider', 'identityProvider'),
    hostService('common', 'Metrics', 'metrics'),
    api('google-rpc', 'google.rpc', ['google/rpc/status.proto', 'google/rpc/error_details.proto'], {}),
    { file: 'envoy-sds', packages: ['envoy.service.discovery.v3', 'envoy.service.secret.v3'],
      protos: ['envoy/service/secret/v3/sds.proto', 'envoy/service/discovery/v3/ads.proto'], messages: [],
      services: { 'envoy.service.secret.v3.SecretDiscoveryService': 'secretDiscovery',
        'envoy.service.discovery.v3.AggregatedDiscoveryService': 'aggregatedDiscovery' } },
    { file: 'envoy-authorization', packages: ['envoy.service.auth.v3'], protos: ['envoy/service/auth/v3/external_auth.proto'], messages: [],
      services: { 'envoy.service.auth.v3.Authorization': 'authorization' } },
    { file: 'envoy-tls', packages: ['envoy.extensions.transport_sockets.tls.v3'],
      protos: ['secret', 'tls_spiffe_validator_config', 'tls'].map(name => `envoy/extensions/transport_sockets/tls/v3/${name}.proto`),
      messages: ['Secret', 'SPIFFECertValidatorConfig', 'DownstreamTlsContext', 'UpstreamTlsContext']
        .map(name => `envoy.extensions.transport_sockets.tls.v3.${name}`), services: {} },
    envoy('listener', ['config.listener.v3'], ['config/listener/v3/listener.proto'], ['Listener']),
    envoy('cluster', ['config.cluster.v3'], ['config/cluster/v3/cluster.proto'], ['Cluster']),
    envoy('endpoint', ['config.endpoint.v3'], ['config/endpoint/v3/endpoint.proto'], ['ClusterLoadAssignment']),
    envoy('route', ['config.route.v3'], ['config/route/v3/route.proto'], ['RouteConfiguration']),
    envoy('rbac', ['config.rbac.v3'], ['config/rbac/v3/rbac.proto'], ['RBAC', 'Action']),
    envoy('trace', ['config.trace.v3', 'type.tracing.v3'], ['config/trace/v3/opentelemetry.proto'], ['OpenTelemetryConfig']),
    envoy('trace-samplers', ['extensions.tracers.opentelemetry.samplers.v3'],
      ['parent_based', 'trace_id_ratio_based'].map(name => `extensions/tracers/opentelemetry/samplers/v3/${name}_sampler.proto`),
      ['ParentBasedSamplerConfig', 'TraceIdRatioBasedSamplerConfig']),
    { file: 'envoy-access-log-service', packages: ['envoy.service.accesslog.v3'], protos: ['envoy/service/accesslog/v3/als.proto'],
      messages: [], services: { 'envoy.service.accesslog.v3.AccessLogService': 'accessLog' } },
    envoy('access-log-data', ['data.accesslog.v3'], ['data/accesslog/v3/accesslog.proto'], ['HTTPAccessLogEntry', 'TCPAccessLogEntry']),
    envoy('access-log', ['config.accesslog.v3'], ['config/accesslog/v3/accesslog.proto'], ['AccessLog']),
    extension('file-access-log', 'access_loggers.file.v3', 'file', ['FileAccessLog']),
    extension('stats-access-log', 'access_loggers.stats.v3', 'stats', ['Config']),
    extension('grpc-access-log', 'access_loggers.grpc.v3', 'als', ['HttpGrpcAccessLogConfig', 'TcpGrpcAccessLogConfig']),
    extension('original-dst', 'filters.listener.original_dst.v3', 'original_dst', ['OriginalDst']),
    extension('tls-inspector', 'filters.listener.tls_inspector.v3', 'tls_inspector', ['TlsInspector']),
    extension('tcp-proxy', 'filters.network.tcp_proxy.v3', 'tcp_proxy', ['TcpProxy']),
    extension('http-connection-manager', 'filters.network.http_connection_manager.v3', 'http_connection_manager',
      ['HttpConnectionManager']),
    extension('network-rbac', 'filters.network.rbac.v3', 'rbac', ['RBAC']),
    extension('http-rbac', 'filters.http.rbac.v3', 'rbac', ['RBAC', 'RBACPerRoute']),
    envoy('mutation-rules', ['config.common.mutation_rules.v3'], ['config/common/mutation_rules/v3/mutation_rules.proto'],
      ['HeaderMutationRules']),
    extension('network-ext-authz', 'filters.network.ext_authz.v3', 'ext_authz', ['ExtAuthz']),
    extension('http-ext-authz', 'filters.http.ext_authz.v3', 'ext_authz', ['ExtAuthz', 'ExtAuthzPerRoute']),
    envoy('matching-network', ['extensions.matching.common_inputs.network.v3'],
      ['extensions/matching/common_inputs/network/v3/network_inputs.proto'],
      ['DestinationIPInput', 'DestinationPortInput', 'DirectSourceIPInput', 'FilterStateInput', 'ServerNameInput', 'SourceIPInput']),
    envoy('matching-ssl', ['extensions.matching.common_inputs.ssl.v3'], ['extensions/matching/common_inputs/ssl/v3/ssl_inputs.proto'],
      ['UriSanInput']),
    extension('matching-ip', 'matching.input_matchers.ip.v3', 'ip', ['Ip']),
    extension('router', 'filters.http.router.v3', 'router', ['Router']),
    extension('set-filter-state', 'filters.network.set_filter_state.v3', 'set_filter_state', ['Config']),
    extension('http-set-filter-state', 'filters.http.set_filter_state.v3', 'set_filter_state', ['Config']),
    extension('filter-state-value', 'filters.common.set_filter_state.v3', 'value', ['FilterStateValue']),
    extension('upstream-http', 'upstreams.http.v3', 'http_protocol_options', ['HttpProtocolOptions']),
    extension('raw-buffer', 'transport_sockets.raw_buffer.v3', 'raw_buffer', ['RawBuffer']),
    extension('internal-upstream', 'transport_sockets.internal_upstream.v3', 'internal_upstream', ['InternalUpstreamTransport']),
    extension('previous-hosts', 'retry.host.previous_hosts.v3', 'previous_hosts', ['PreviousHostsPredicate']),
    extension('on-demand-secret', 'transport_sockets.tls.cert_selectors.on_demand_secret.v3', 'config', ['Config']),
    extension('static-name', 'transport_sockets.tls.cert_mappers.static_name.v3', 'config', ['StaticName']),
    extension('filter-state-name', 'transport_sockets.tls.cert_mappers.filter_state_override.v3', 'config', ['Config']),
    extension('filter-state-address', 'local_address_selectors.filter_state_override.v3', 'config', ['Config']),
    { file: 'envoy-core', packages: ['envoy.config.core.v3', 'envoy.type.v3', 'envoy.type.matcher.v3', 'envoy.type.metadata.v3'],
      protos: ['envoy/type/matcher/v3/http_inputs.proto'], messages: ['envoy.type.matcher.v3.HttpRequestHeaderMatchInput'], services: {} },
    { file: 'xds-matcher', packages: ['xds.type.matcher.v3'], protos: ['xds/type/matcher/v3/matcher.proto'],
      messages: ['xds.type.matcher.v3.Matcher'], services: {} },
    { file: 'xds-core', packages: ['xds.core.v3'], protos: [], messages: [], services: {} },
    { file: 'well-known', packages: ['google.protobuf'], protos: [], messages: [], services: {} }
  ]
]

/** Fields that Envoy speaks and the npm tree lacks: message, name, number, type, map key or rule. */
export const newerFields: ReadonlyArray<{ message: string, name: string, number: number, type: string,
  rule?: 'repeated' | 'string-map' }> = [
  { message: 'envoy.config.core.v3.SocketAddress', name: 'network_namespace_filepath', number: 7, type: 'string' },
  { message: 'envoy.config.core.v3.HttpProtocolOptions', name: 'max_connection_duration_jitter', number: 8, type: 'envoy.type.v3.Percent' },
  { message: 'envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy', name: 'max_downstream_connection_duration_jitter_percentage',
    number: 20, type: 'envoy.type.v3.Percent' },
  // An enum there: 0 at once, 1 with the first byte, 2 with the handshake.
  { message: 'envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy', name: 'upstream_connect_mode', number: 21, type: 'uint32' },
  { message: 'envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy', name: 'max_early_data_bytes', number: 22,
    type: 'google.protobuf.UInt32Value' },
  { message: 'envoy.config.route.v3.RouteMatch', name: 'filter_state', number: 16, type: 'envoy.type.matcher.v3.FilterStateMatcher',
    rule: 'repeated' },
  { message: 'envoy.type.tracing.v3.CustomTag', name: 'value', number: 6, type: 'string' },
  { message: 'envoy.extensions.transport_sockets.tls.v3.CommonTlsContext', name: 'custom_tls_certificate_selector', number: 16,
    type: 'envoy.config.core.v3.TypedExtensionConfig' },
  { message: 'envoy.extensions.filters.network.set_filter_state.v3.Config', name: 'on_downstream_tls_handshake', number: 2,
    type: 'envoy.extensions.filters.common.set_filter_state.v3.FilterStateValue', rule: 'repeated' },
  { message: 'envoy.extensions.transport_sockets.tls.v3.GenericSecret', name: 'secrets', number: 2,
    type: 'envoy.config.core.v3.DataSource', rule: 'string-map' },
  { message: 'envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig', name: 'trust_bundles', number: 2,
    type: 'envoy.config.core.v3.DataSource' },
  { message: 'envoy.service.discovery.v3.DiscoveryResponse', name: 'resource_errors', number: 7, type: 'ResourceError', rule: 'repeated' },
  { message: 'envoy.service.discovery.v3.DeltaDiscoveryResponse', name: 'resource_errors', number: 9, type: 'ResourceError',
    rule: 'repeated' }
]

/** Messages the npm tree lacks. */
export const newerMessages: ReadonlyArray<{ parent: string, name: string,
  fields: ReadonlyArray<{ name: string, number: number, type: string }> }> = [
  { parent: 'envoy.service.discovery.v3', name: 'ResourceError', fields: [
    { name: 'resource_name', number: 1, type: 'ResourceName' },
    { name: 'error_detail', number: 2, type: 'google.rpc.Status' }
  ] }
]

function api (file: string, pack: string, protos: readonly string[], services: Readonly<Record<string, string>>): Output {
  return { file, packages: [pack], protos, messages: ['*'], services }
}

/** Messages of Envoy's own configuration. */
function envoy (file: string, packages: readonly string[], protos: readonly string[], messages: readonly string[]): Output {
  const [first] = packages
  return { file: `envoy-${file}`, packages: packages.map(name => `envoy.${name}`), protos: protos.map(path => `envoy/${path}`),
    messages: messages.map(name => `envoy.${first}.${name}`), services: {} }
}

function extension (file: string, pack: string, proto: string, messages: readonly string[]): Output {
  return envoy(file, [`extensions.${pack}`], [`extensions/${pack.replaceAll('.', '/')}/${proto}.proto`], messages)
}

function server (folder: string, service: string, name: string): Output {
  const file = `server-${kebab(name)}`
  const pack = `spire.api.server.${folder}.v1`
  return api(file, pack, [`spire/api/server/${folder}/v1/${folder}.proto`], { [`${pack}.${service}`]: name })
}

/** A plugin's main service, of SPIRE's plugin SDK. */
function plugin (side: 'agent' | 'server', service: string, name: string): Output {
  const folder = service.toLowerCase()
  const pack = `spire.plugin.${side}.${folder}.v1`
  const file = `spire/plugin/${side}/${folder}/v1/${folder}.proto`
  return api(`plugin-${kebab(name)}`, pack, [file], { [`${pack}.${service}`]: `${name}Plugin` })
}

/** What a server, or both, offer to their plugins. */
function hostService (side: 'server' | 'common', service: string, name: string): Output {
  const folder = service.toLowerCase()
  const pack = `spire.hostservice.${side}.${folder}.v1`
  const file = `spire/hostservice/${side}/${folder}/v1/${folder}.proto`
  return api(`host-${kebab(name)}`, pack, [file], { [`${pack}.${service}`]: name })
}

function kebab (name: string): string { return name.replace(/[A-Z]/g, letter => `-${letter.toLowerCase()}`) }
