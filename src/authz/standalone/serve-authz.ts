import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/logger.ts'
import { runTasks } from '../../runtime/tasks.ts'
import type { EndpointAddress } from '../../spiffe/endpoint-address.ts'
import { openRpcServer } from '../../rpc/server.ts'
import { DataApi } from '../data-api/data-api.ts'
import { serveHttp } from '../data-api/http-listener.ts'
import { Decider, type DecisionFacts, type Provider } from '../decider.ts'
import { extAuthzMethods } from '../ext-authz/ext-authz-methods.ts'
import { answerHttpCheck } from '../ext-authz/http-flavour.ts'
import { type ForeignDocuments, type PolicyText, readPolicies } from '../policy/read-policies.ts'
import { fingerprint, readPolicyFiles } from './policy-folder.ts'
import { loadPolicies, type PolicySource, watchPolicies } from './watch-policies.ts'

export interface AuthzConfig {
  /** Files and folders of policies. */
  readonly policies: readonly string[]
  /** gRPC, Envoy's ext_authz. Over TCP plain text: of this machine alone. */
  readonly extAuthz: readonly EndpointAddress[]
  /** HTTP, Envoy's ext_authz as an HTTP service. */
  readonly extAuthzHttp: readonly EndpointAddress[]
  /** HTTP, OPA's Data API. */
  readonly dataApi: readonly EndpointAddress[]
  readonly dryRun: boolean
}

export interface AuthzDeps {
  readonly log: Logger
  readonly clock: Clock
  readonly foreign?: readonly ForeignDocuments[]
  readonly providers?: ReadonlyMap<string, Provider>
  readonly onDecided?: (facts: DecisionFacts) => void
  /** Told once each listener is there: which, and where. */
  readonly onReady?: (listener: 'ext-authz' | 'ext-authz-http' | 'data-api', where: string) => void
}

/**
 * Decides for any Envoy or service, without a server or an agent, until the signal aborts.
 * @throws {SpiffeError} `policy_malformed`, `policy_unsupported`, `file_unusable`, `address_unusable`, `socket_in_use`
 */
export async function serveAuthz (config: AuthzConfig, deps: AuthzDeps, signal: AbortSignal): Promise<void> {
  const { log, clock, foreign = [], providers = new Map<string, Provider>(), onReady = () => {} } = deps
  let texts: readonly PolicyText[] = []
  const source: PolicySource = {
    read () {
      const read = readPolicyFiles(config.policies)
      const set = readPolicies(read, { foreign })
      texts = read
      return set
    },
    fingerprint: () => fingerprint(config.policies)
  }
  const active = loadPolicies(source, clock)
  const { engine } = active.value
  log.info({ revision: engine.set.revision, rules: engine.set.rules.length }, 'policies taken over')
  const decider = new Decider({
    engine: () => active.value.engine, providers, onDecided: deps.onDecided, dryRun: config.dryRun, monotonicMs: () => clock.monotonicMs()
  })
  const problems = () => active.value.problem === undefined ? [] : [active.value.problem.message]
  const dataApi = new DataApi({ decider, clock, policies: () => texts, problems })
  const ready = (listener: Parameters<typeof onReady>[0]) => (where: string) => {
    log.info({ listener, where }, 'listening')
    onReady(listener, where)
  }
  await using rpc = openRpcServer({ services: [], unary: extAuthzMethods(decider, clock), log, clock })
  for (const address of config.extAuthz) {
    if (address.kind === 'unix') {
      const { path } = await rpc.listenUnix({ path: address.path })
      ready('ext-authz')(`unix://${path}`)
    } else {
      const { host, port } = await rpc.listenPlain(address)
      ready('ext-authz')(`tcp://${host}:${port}`)
    }
  }
  await runTasks(signal, [
    inner => watchPolicies(active, source, { clock, log }, inner),
    ...config.extAuthzHttp.map(address => (inner: AbortSignal) =>
      serveHttp(address, request => answerHttpCheck(decider, request, clock.now()), log, inner, ready('ext-authz-http'))),
    ...config.dataApi.map(address => (inner: AbortSignal) =>
      serveHttp(address, (request, body) => dataApi.answer(request.method ?? '', request.url ?? '/', body), log, inner, ready('data-api')))
  ])
}
