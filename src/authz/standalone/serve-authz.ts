import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { createMetrics } from '../../runtime/metrics.ts'
import { hostAndPort } from '../../runtime/host-and-port.ts'
import { releaseMemory } from '../../runtime/release-memory.ts'
import { runTasks } from '../../runtime/tasks.ts'
import type { EndpointAddress } from '../../spiffe/endpoint-address.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { openRpcServer, type RpcServer, type TlsOptions } from '../../rpc/server.ts'
import { DataApi } from '../data-api/data-api.ts'
import type { HttpHandler, serveHttp as ServeHttp } from '../data-api/http-listener.ts'
import { openRecorder, type RecordingConfig } from '../decision-log/open-recorder.ts'
import { Decider, type Providers } from '../decider.ts'
import { extAuthzMethods } from '../ext-authz/ext-authz-methods.ts'
import { answerHttpCheck } from '../ext-authz/http-flavour.ts'
import { foreignKinds } from '../policy/foreign-kinds.ts'
import { type PolicyText, readPolicies } from '../policy/read-policies.ts'
import type { PolicySet } from '../policy/policy-set.ts'
import { requireTrustDomain } from '../policy/require-trust-domain.ts'
import { regoProvider } from '../rego/rego-provider.ts'
import { keepRbac, type RbacFolder, writeFilters } from './keep-rbac.ts'
import { type BundlesConfig, openBundles } from './open-bundles.ts'
import { openShadow } from './shadow.ts'
import { openPolicies } from './watch-policies.ts'

export interface AuthzConfig {
  /** Files and folders of policies. */
  readonly policies: readonly string[]
  /** gRPC, Envoy's ext_authz. Over TCP by mutual TLS, or without it of this machine alone. */
  readonly extAuthz: readonly EndpointAddress[]
  /** HTTP, Envoy's ext_authz as an HTTP service. */
  readonly extAuthzHttp: readonly EndpointAddress[]
  /** HTTP, OPA's Data API, without TLS: over TCP of this machine alone. */
  readonly dataApi: readonly EndpointAddress[]
  /** The same over TCP by mutual TLS. */
  readonly dataApiTls?: readonly EndpointAddress[] | undefined
  readonly dryRun: boolean
  /** Where filters for Envoys are written. */
  readonly rbac?: RbacFolder | undefined
  /** Files and folders of policies that are not obeyed: what they would answer otherwise is told. */
  readonly candidate?: readonly string[] | undefined
  readonly tls?: ServingTls | undefined
  readonly rego?: BundlesConfig | undefined
  readonly recording?: RecordingConfig | undefined
}

/** What is shown to who asks over TCP, and whom to believe. */
export interface ServingTls extends TlsOptions {
  /**
   * Reads again what has changed since it was read.
   * @returns whether anything had @throws {SpiffeError} what is there cannot be used: what was goes on
   */
  renew (): boolean
}

export interface AuthzDeps {
  readonly log: Logger
  readonly clock: Clock
  /** Told once each listener is there: which, and where. */
  readonly onReady?: (listener: 'ext-authz' | 'ext-authz-http' | 'data-api' | 'data-api-tls', where: string) => void
}

const tlsPollMs = 1_000
/** Reading them leaves more behind than they are. */
const manyRules = 1_000

/**
 * Decides for any Envoy or service, without a server or an agent, until the signal aborts.
 * @throws {SpiffeError} `policy_malformed`, `policy_unsupported`, `file_unusable`, `address_unusable`, `socket_in_use`
 */
export async function serveAuthz (config: AuthzConfig, deps: AuthzDeps, signal: AbortSignal): Promise<void> {
  const { tls, rbac } = config
  const { log, clock, onReady = () => {} } = deps
  const metrics = createMetrics({ prefix: 'assay_authz' })
  const recorder = openRecorder(config.recording ?? { mask: [] }, { clock, log, metrics })
  await using rego = config.rego === undefined ? undefined : await openBundles(config.rego, { clock, log })
  const currentRego = () => rego?.current.value
  const providers: Providers = name => rego === undefined ? undefined : regoProvider(name, currentRego)
  let texts: readonly PolicyText[] = []
  const policies = await openPolicies({
    paths: config.policies,
    parse (read) {
      const set = requireTrustDomain(readPolicies(read, { foreign: foreignKinds }))
      checkProviders(set, providers)
      checkNoBundles(set)
      texts = read
      return set
    }
  }, { clock, log })
  const { active } = policies
  const { engine } = active.value
  if (engine.set.rules.length > manyRules) releaseMemory()
  log.info({ revision: engine.set.revision, rules: engine.set.rules.length }, 'policies taken over')
  if (rbac !== undefined) await writeFilters(rbac, active.value, deps)
  const shadow = await openShadow(config.candidate ?? [], active, deps)
  const decider = new Decider({
    engine: () => active.value.engine,
    providers,
    onDecided (facts) {
      recorder.decided(facts)
      shadow?.observe(facts)
    },
    dryRun: config.dryRun,
    monotonicMs: () => clock.monotonicMs()
  })
  const dataApi = new DataApi({
    decider, clock, policies: () => texts,
    decisions: asked => recorder.log.find(asked),
    metrics: () => metrics.expose(),
    ...shadow === undefined ? {} : { flips: () => shadow.report() },
    documents: async (path, input) => await currentRego()?.document(path, input, { time: clock.now() }),
    problems: () => [
      ...active.value.problem === undefined ? [] : [active.value.problem.message],
      ...rego !== undefined && currentRego() === undefined ? ['no bundle has been loaded yet'] : []
    ]
  })
  const ready = (listener: Parameters<typeof onReady>[0]) => (where: string) => {
    log.info({ listener, where }, 'listening')
    onReady(listener, where)
  }
  const answer: HttpHandler = (request, body) => dataApi.answer(request.method ?? '', request.url ?? '/', body)
  await using rpc = openRpcServer({ services: [], unary: extAuthzMethods(decider, clock), log, clock })
  const refreshers = new Set([() => rpc.refreshIdentity()])
  for (const address of config.extAuthz) {
    ready('ext-authz')(await listen(rpc, address, config.tls))
  }
  await runTasks(signal, [
    inner => policies.run(inner),
    inner => recorder.log.run(inner),
    ...shadow === undefined ? [] : [(inner: AbortSignal) => shadow.run(inner)],
    ...rbac === undefined ? [] : [(inner: AbortSignal) => keepRbac(rbac, active, deps, inner)],
    ...tls === undefined ? [] : [(inner: AbortSignal) => watchTls(tls, refreshers, { clock, log }, inner)],
    ...config.extAuthzHttp.map(address => (inner: AbortSignal) =>
      serveHttp(address, request => answerHttpCheck(decider, request, clock.now()), { log, clock, ready: ready('ext-authz-http') }, inner)),
    ...config.dataApi.map(address => (inner: AbortSignal) => serveHttp(address, answer, { log, clock, ready: ready('data-api') }, inner)),
    ...tls === undefined ? [] : (config.dataApiTls ?? []).map(address => (inner: AbortSignal) =>
      serveHttp(address, answer, { log, clock, tls: { ...tls, refreshers }, ready: ready('data-api-tls') }, inner))
  ])
}

/** Node's HTTP brings a client of its own, of megabytes: not for who answers gRPC alone. */
const serveHttp: typeof ServeHttp = async (...asked) => await (await import('../data-api/http-listener.ts')).serveHttp(...asked)

function checkProviders ({ rules }: PolicySet, providers: Providers): void {
  const unknown = rules.find(({ provider }) => provider !== undefined && providers(provider) === undefined)
  if (unknown === undefined) return
  throw new SpiffeError('policy_unsupported', `rule ${unknown.name} asks ${unknown.provider}, which is not configured here`)
}

/** Here bundles have sources of their own, which are followed. */
function checkNoBundles ({ bundles: [bundle] }: PolicySet): void {
  if (bundle === undefined) return
  const { name } = bundle
  throw new SpiffeError('policy_unsupported', `RegoBundle ${name} is for policies on a server: here give it by -rego ${name}=FILE`)
}

async function listen (rpc: RpcServer, address: EndpointAddress, tls: ServingTls | undefined): Promise<string> {
  if (address.kind === 'unix') return `unix://${(await rpc.listenUnix({ path: address.path })).path}`
  const { host, port } = tls === undefined
    ? await rpc.listenPlain(address)
    : await rpc.listenTls({
      host: address.host, port: address.port, clientRequired: true, identity: () => tls.identity(), bundleOf: tls.bundleOf,
      ...tls.acceptClient === undefined ? {} : { acceptClient: tls.acceptClient }
    })
  return `tcp://${hostAndPort(host, port)}`
}

/** SVIDs live for an hour: whoever writes them anew is followed. */
async function watchTls (
  tls: ServingTls, refreshers: ReadonlySet<() => void>, { clock, log }: Pick<AuthzDeps, 'clock' | 'log'>, signal: AbortSignal
): Promise<void> {
  for (;;) {
    await clock.sleep(tlsPollMs, signal)
    try {
      if (!tls.renew()) continue
      for (const refresh of refreshers) refresh()
      log.info('new certificate taken over')
    } catch (error) {
      log.error({ reason: (error as Error).message }, 'the certificate\'s files cannot be used: the one before goes on')
    }
  }
}
