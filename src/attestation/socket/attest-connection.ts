import { hostAndPort } from '../../runtime/host-and-port.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { formatSelector, normalizeSelectors, type Selector } from '../../spiffe/selector.ts'
import { attestWorkload, type AttestWorkloadDeps } from '../workload/attest-workload.ts'
import { findHolders } from './find-holders.ts'
import type { SocketFacts } from './inet-diag.ts'
import { addressBytes, sameBytes, type SocketAddress } from './socket-address.ts'
import type { SocketDiagnosis } from './socket-diagnosis.ts'
import type { SocketHolder } from './socket-holder.ts'

export interface AttestSocketDeps extends AttestWorkloadDeps {
  /** Of the network namespace in which the workload's socket is. */
  readonly sockets: SocketDiagnosis
}

/**
 * What holds for the process behind a TCP connection of this machine, found through its socket. The process must run as who it was when it
 * made the socket; when several have it, the same must hold for all. The socket is looked up again at the end: an answer is about a
 * process that had this very connection all the while.
 * @param source what the process connected from
 * @param destination what it connected to: with redirection the address it asked for, not the proxy's
 * @returns normalised
 * @throws {SpiffeError} `connection_unknown`, `connection_ambiguous`, `caller_gone`, `workload_attestation_failed`,
 * `socket_lookup_failed`, `argument_invalid`. When the signal aborts, its reason.
 */
export async function attestConnection (
  source: SocketAddress, destination: SocketAddress, deps: AttestSocketDeps, signal: AbortSignal
): Promise<readonly Selector[]> {
  const name = `${formatAddress(source)} to ${formatAddress(destination)}`
  const socket = deps.sockets.connection(source, destination)
  if (socket === undefined) throw new SpiffeError('connection_unknown', `no process here is connected from ${name}`)
  using found = await findHolders([socket], 'group', signal)
  for (const { pid, uid } of found.holders) {
    if (uid === socket.uid) continue
    throw new SpiffeError('connection_ambiguous', `user ${socket.uid} connected from ${name}, process ${pid} of user ${uid} has the socket`)
  }
  const selectors = sameOfAll(await attestAll(found.holders, deps, signal), name)
  if (deps.sockets.connection(source, destination, socket) === undefined) {
    throw new SpiffeError('connection_unknown', `the connection from ${name} ended while it was looked at`)
  }
  return selectors
}

/**
 * What holds for every process that takes connections on a TCP port of this machine, wherever it got the socket from: a server's master
 * and its workers may run as different users, and the one that started a service may keep its socket.
 * @param listener a port, of which all listeners count; or an address and a port, of which those count that take what is sent there
 * @returns normalised; what they have in common, never empty
 * @throws {SpiffeError} as `attestConnection`; `connection_ambiguous` also when they have nothing in common
 */
export async function attestListener (
  listener: number | SocketAddress, deps: AttestSocketDeps, signal: AbortSignal
): Promise<readonly Selector[]> {
  const name = typeof listener === 'number' ? `port ${listener}` : formatAddress(listener)
  const sockets = listenersOf(listener, deps.sockets)
  if (sockets.length === 0) throw new SpiffeError('connection_unknown', `no process here listens on ${name}`)
  using found = await findHolders(sockets, 'everywhere', signal)
  const selectors = commonToAll(await attestAll(found.holders, deps, signal), name)
  if (!sameSockets(sockets, listenersOf(listener, deps.sockets))) {
    throw new SpiffeError('connection_unknown', `other sockets listen on ${name} now`)
  }
  return selectors
}

/** One after the other: a burst of forked workers must not become a burst of work. */
async function attestAll (
  holders: readonly SocketHolder[], deps: AttestWorkloadDeps, signal: AbortSignal
): Promise<readonly (readonly Selector[])[]> {
  const results = []
  for (const holder of holders) results.push(await attestWorkload(holder, deps, signal))
  // Those that were attested first may have changed since.
  for (const holder of holders) holder.check()
  return results
}

function sameOfAll (results: readonly (readonly Selector[])[], name: string): readonly Selector[] {
  const [first = [], ...others] = results
  const text = textOf(first)
  if (others.some(other => textOf(other) !== text)) {
    throw new SpiffeError('connection_ambiguous', `${results.length} processes with different selectors have the connection from ${name}`)
  }
  return first
}

function commonToAll (results: readonly (readonly Selector[])[], name: string): readonly Selector[] {
  const [first = [], ...others] = results
  const sets = others.map(other => new Set(other.map(formatSelector)))
  const common = normalizeSelectors(first.filter(selector => sets.every(set => set.has(formatSelector(selector)))))
  if (common.length > 0) return common
  throw new SpiffeError('connection_ambiguous', `the ${results.length} processes that listen on ${name} have no selector in common`)
}

function textOf (selectors: readonly Selector[]): string { return selectors.map(formatSelector).join('\n') }

/** A socket that is bound to the address takes the connection; those bound to no address take what nobody else does. */
function listenersOf (listener: number | SocketAddress, sockets: SocketDiagnosis): SocketFacts[] {
  if (typeof listener === 'number') return sockets.listeners(listener)
  const wanted = addressBytes(listener.address)
  const all = sockets.listeners(listener.port)
  const exact = all.filter(({ localAddress }) => sameBytes(localAddress, wanted))
  if (exact.length > 0) return exact
  // One that is bound to no address of IPv6 takes IPv4 too, unless it asked not to: which of both is not told here.
  return all.filter(({ localAddress }) => isAny(localAddress) && localAddress.length >= wanted.length)
}

function isAny (bytes: Uint8Array): boolean { return bytes.every(byte => byte === 0) }

function sameSockets (a: readonly SocketFacts[], b: readonly SocketFacts[]): boolean {
  const cookies = (sockets: readonly SocketFacts[]) => sockets.map(({ cookie, inode }) => [...cookie, inode].join(':')).toSorted().join(' ')
  return cookies(a) === cookies(b)
}

function formatAddress ({ address, port }: SocketAddress): string { return hostAndPort(address, port) }
