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
    api('agent-sync', 'assay.agent.v1', ['assay/agent/v1/sync.proto'], { 'assay.agent.v1.AgentSync': 'agentSync' }),
    api('cluster', 'assay.server.v1', ['assay/server/v1/cluster.proto'], { 'assay.server.v1.Cluster': 'cluster' }),
    api('revocation', 'assay.server.revocation.v1', ['assay/server/revocation/v1/revocation.proto'],
      { 'assay.server.revocation.v1.Revocation': 'revocation' }),
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
    api('google-rpc', 'google.rpc', ['google/rpc/status.proto', 'google/rpc/error_details.proto'], {}),
    { file: 'envoy-sds', packages: ['envoy.service.discovery.v3', 'envoy.service.secret.v3'], protos: ['envoy/service/secret/v3/sds.proto'],
      messages: [], services: { 'envoy.service.secret.v3.SecretDiscoveryService': 'secretDiscovery' } },
    { file: 'envoy-tls', packages: ['envoy.extensions.transport_sockets.tls.v3'],
      protos: ['secret', 'tls_spiffe_validator_config'].map(name => `envoy/extensions/transport_sockets/tls/v3/${name}.proto`),
      messages: ['Secret', 'SPIFFECertValidatorConfig'].map(name => `envoy.extensions.transport_sockets.tls.v3.${name}`), services: {} },
    { file: 'envoy-core', packages: ['envoy.config.core.v3', 'envoy.type.v3', 'envoy.type.matcher.v3'], protos: [], messages: [],
      services: {} },
    { file: 'xds-core', packages: ['xds.core.v3'], protos: [], messages: [], services: {} },
    { file: 'well-known', packages: ['google.protobuf'], protos: [], messages: [], services: {} }
  ]
]

/** Fields that Envoy speaks and the npm tree lacks: message, name, number, type, map key or rule. */
export const newerFields: ReadonlyArray<{ message: string, name: string, number: number, type: string,
  rule?: 'repeated' | 'string-map' }> = [
  { message: 'envoy.config.core.v3.SocketAddress', name: 'network_namespace_filepath', number: 7, type: 'string' },
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

function server (folder: string, service: string, name: string): Output {
  const file = `server-${name.replace(/[A-Z]/g, letter => `-${letter.toLowerCase()}`)}`
  const pack = `spire.api.server.${folder}.v1`
  return api(file, pack, [`spire/api/server/${folder}/v1/${folder}.proto`], { [`${pack}.${service}`]: name })
}
