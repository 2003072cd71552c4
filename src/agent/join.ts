import { readFile } from 'node:fs/promises'
import type { NodeAttestor } from '../attestation/node/node-attestor.ts'
import type { Bundle } from '../spiffe/bundle.ts'
import { parseBundleDocument } from '../spiffe/bundle-document.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { isStop } from '../runtime/tasks.ts'
import { retryAfterMsOf, RpcError } from '../rpc/rpc-error.ts'
import { createCertificateRequest } from '../x509/certificate-request.ts'
import { decodePem } from '../x509/pem.ts'
import type { AgentConfig } from './agent-config.ts'
import { agentState, newAgentKey } from './agent-svid.ts'
import type { AgentState } from './agent-state.ts'
import { attestNode } from './attest-node.ts'
import { fetchTrustBundle, withoutQuery } from './fetch-trust-bundle.ts'
import { fetchWorkloadBundle } from './ask-workload-api.ts'
import { ownBundleOf } from './own-bundle.ts'
import { serverRefusal } from './server-trouble.ts'
import { verifyServerIdOnly, verifyServerWith, type VerifyServer } from '../rpc/verify-server.ts'

export interface JoinDeps {
  readonly attestor: NodeAttestor
  readonly clock: Clock
  readonly log: Logger
  /** Of an agent that attests again: tried before the pinned bundle, which may have grown old. */
  readonly known?: Bundle | undefined
  /** Whether this node was an agent of other servers before. */
  readonly again?: boolean
}

const firstRetryMs = 1000
const longestRetryMs = 30_000

/**
 * Makes this node an agent: attests it under the pinned bundle, again and again while the server (or who has the bundle) cannot be reached.
 * @throws {SpiffeError} `bootstrap_untrusted`, `file_unusable`, what the attestor threw, and what the server refused with
 */
export async function joinTrustDomain (config: AgentConfig, deps: JoinDeps, signal: AbortSignal): Promise<AgentState> {
  const { attestor, clock, log, known } = deps
  let pinned = known === undefined
  if (pinned && config.insecureBootstrap) {
    log.warn('insecure_bootstrap: the server is not verified at first contact; whoever answers now is trusted from now on')
  }
  const key = newAgentKey()
  const startedAt = clock.now()
  const attestation = {
    trustDomain: config.trustDomain,
    attestor,
    csr: createCertificateRequest(key),
    requirePqKem: config.requirePqKem,
    log
  }
  for (let retryMs = firstRetryMs, attempt = 0; ; retryMs = Math.min(longestRetryMs, retryMs * 2), attempt++) {
    const address = config.serverAddresses[attempt % config.serverAddresses.length] as string
    try {
      // Read anew each time: while no server was there, it may have changed.
      const verifyServer = !pinned && known !== undefined ? verifyServerWith(() => known, clock) : await bootstrapVerifier(config, clock, {
        'spire-attest-mode': known !== undefined || deps.again === true ? 'rebootstrap' : 'bootstrap',
        'spire-connection-attempts': String(attempt + 1),
        'spire-attest-start-time': `${startedAt.toISOString().slice(0, 19)}Z`,
        'spire-server-address': address.replace(/:\d+$/, ''),
        'spire-server-port': address.replace(/^.*:/, ''),
        'spiffe-trust-domain': config.trustDomain
      }, signal)
      const result = await attestNode({ ...attestation, address, verifyServer }, signal)
      log.info({ bundleSequence: String(result.bundle.sequenceNumber ?? '') }, 'node attested')
      return agentState(result.chain, key, { ...result, cacheGeneration: 0 })
    } catch (error) {
      // Who had a bundle once is past the contact at which whoever answers is believed.
      if (!pinned && !config.insecureBootstrap && serverRefusal(error) !== undefined) {
        pinned = true
        continue
      }
      if (isStop(error, signal) || !mayHelpToRetry(error)) throw explained(error)
      const waitMs = retryAfterMsOf(error, longestRetryMs) ?? retryMs
      log.warn({ err: error, address, retryInMs: waitMs }, 'joining failed for now; trying again')
      await clock.sleep(waitMs, signal)
    }
  }
}

/** @throws {SpiffeError} `config_invalid` when there is none; `file_unusable` */
export async function readJoinToken ({ joinToken, joinTokenFile }: AgentConfig): Promise<string> {
  const token = joinToken ?? (joinTokenFile === undefined ? '' : (await readText(joinTokenFile)).trim())
  if (token !== '') return token
  throw new SpiffeError(
    'config_invalid', 'this agent has no identity yet and no join token; make one with `assay token generate` and pass it as -joinToken'
  )
}

async function bootstrapVerifier (
  config: AgentConfig, clock: Clock, about: Readonly<Record<string, string>>, signal: AbortSignal
): Promise<VerifyServer> {
  if (config.insecureBootstrap) return verifyServerIdOnly(config.trustDomain)
  const bundle = await firstBundle(config, about, signal)
  return verifyServerWith(() => bundle, clock)
}

async function firstBundle (config: AgentConfig, about: Readonly<Record<string, string>>, signal: AbortSignal): Promise<Bundle> {
  const { trustDomain, trustBundleFormat, trustBundleWorkloadApi: path } = config
  if (path !== undefined) return ownBundleOf(await fetchWorkloadBundle(path, trustDomain, signal), trustDomain)
  const { text, from } = await loadTrustBundle(config, about, signal)
  return readTrustBundle(text, from, trustBundleFormat, trustDomain)
}

/**
 * @param about what a program on this machine that hands out bundles is told (SPIRE's query)
 * @returns the text, and for messages where it is from
 */
async function loadTrustBundle (
  { trustBundlePath: path, trustBundleUrl: url, trustBundleUnixSocket: socketPath }: AgentConfig, about: Readonly<Record<string, string>>,
  signal: AbortSignal
): Promise<{ readonly text: string, readonly from: string }> {
  if (path !== undefined) return { text: await readText(path), from: path }
  if (url !== undefined && socketPath !== undefined) {
    const asked = new URL(url)
    for (const [name, value] of Object.entries(about)) asked.searchParams.set(name, value)
    return { text: await fetchTrustBundle(asked.href, signal, { socketPath }), from: socketPath }
  }
  if (url !== undefined) return { text: await fetchTrustBundle(url, signal), from: withoutQuery(url) }
  throw new SpiffeError('config_invalid', 'the agent was told no bundle to know its servers by, nor to do without')
}

function readTrustBundle (text: string, from: string, format: 'pem' | 'spiffe', trustDomain: TrustDomain): Bundle {
  try {
    return ownBundleOf(format === 'spiffe' ? parseBundleDocument(text, trustDomain) : {
      trustDomain,
      x509Authorities: decodePem(text, 'CERTIFICATE').map(certificate => ({ certificate, tainted: false })),
      jwtAuthorities: []
    }, trustDomain)
  } catch (error) {
    throw new SpiffeError('bundle_malformed', `the trust bundle ${from} is unusable: ${(error as Error).message}`, { cause: error })
  }
}

async function readText (path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw new SpiffeError('file_unusable', `cannot read ${path}`, { cause: error })
  }
}

/** A server that is starting or unreachable; a refusal or an untrusted chain stays what it is. */
function mayHelpToRetry (error: unknown): boolean {
  if (!(error instanceof RpcError)) return error instanceof SpiffeError && error.row.retry
  if (serverRefusal(error) !== undefined) return false
  return error.status === 'UNAVAILABLE' || error.status === 'DEADLINE_EXCEEDED' || error.status === 'RESOURCE_EXHAUSTED'
}

function explained (error: unknown): unknown {
  const refusal = serverRefusal(error)
  if (refusal === undefined) return error
  return new SpiffeError('bootstrap_untrusted', `the server is not trusted: ${refusal.message}`, { cause: error })
}
