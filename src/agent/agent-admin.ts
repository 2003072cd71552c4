import type { DecisionLog } from '../authz/decision-log/decision-log.ts'
import { delegatedIdentityHandlers } from '../delegatedidentity/delegated-identity-handlers.ts'
import { logLevelHandlers } from '../rpc/log-level-handlers.ts'
import { bind, openRpcServer, type RpcServer, type RpcServerOptions } from '../rpc/server.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { decisionsService } from '../wire/generated/agent-sync.ts'
import { debugService } from '../wire/generated/agent-debug.ts'
import { loggerService } from '../wire/generated/agent-logger.ts'
import { delegatedIdentityService } from '../wire/generated/delegated-identity.ts'
import type { AgentConfig } from './agent-config.ts'
import { decisionsHandlers } from './agent-decisions.ts'
import { type AgentDebugDeps, debugHandlers } from './agent-debug.ts'
import type { AttestCaller } from './agent-services.ts'
import type { AttestPid } from './follow-workload.ts'
import { type AgentIdentitySource, checkSynced } from './identity-source.ts'
import type { NodeIdentities } from './node-identities.ts'

export interface AgentAdminDeps {
  readonly identities: NodeIdentities
  /** What may be had for others. */
  readonly delegable: AgentIdentitySource
  readonly attest: AttestCaller
  readonly attestPid: AttestPid
  readonly debug: AgentDebugDeps
  /** Of the node's proxy, where there is one. */
  readonly decisions: Pick<DecisionLog, 'find'> | undefined
  readonly clock: Clock
  readonly log: Logger
  /** Who is told of calls. */
  readonly calls: Pick<RpcServerOptions, 'before' | 'onEnded'>
}

/**
 * Opens the admin socket: Debug, Logger and Decisions for whoever may open the file, Delegated Identity for authorised delegates among
 * them.
 * @throws {SpiffeError} `socket_in_use`, `file_unusable`
 */
export async function openAgentAdmin (
  path: string, { authorizedDelegates }: AgentConfig, deps: AgentAdminDeps, takeOver: boolean
): Promise<RpcServer> {
  const { identities, delegable, attest, attestPid, decisions, clock, log } = deps
  const rpc = openRpcServer({
    services: [
      bind(delegatedIdentityService, delegatedIdentityHandlers({
        authorizedDelegates,
        attestWorkload: attest,
        attestPid,
        callers: {
          idsOf (selectors) {
            checkSynced(identities)
            return identities.entriesFor(selectors).map(({ spiffeId }) => spiffeId)
          },
          watch: (selectors, signal) => identities.watch(selectors, signal)
        },
        identities: { ...delegable, watchBundles: signal => watchBundles(identities, signal) }
      })),
      bind(debugService, debugHandlers(deps.debug)),
      bind(loggerService, logLevelHandlers(log)),
      ...decisions === undefined ? [] : [bind(decisionsService, decisionsHandlers(decisions))]
    ],
    log,
    clock,
    ...deps.calls
  })
  await rpc.listenUnix({ path, mode: 0o770, takeOver })
  log.info({ socket: path, delegates: authorizedDelegates }, 'admin socket is open')
  return rpc
}

async function * watchBundles (identities: NodeIdentities, signal: AbortSignal) {
  checkSynced(identities)
  yield * identities.watchBundles(signal)
}
