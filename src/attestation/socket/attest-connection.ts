import { hostAndPort } from '../../runtime/host-and-port.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { formatSelector, type Selector } from '../../spiffe/selector.ts'
import { attestWorkload, type AttestWorkloadDeps } from '../workload/attest-workload.ts'
import { findHolders } from './find-holders.ts'
import type { SocketAddress } from './socket-address.ts'
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
  using found = await findHolders(socket, signal)
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

function textOf (selectors: readonly Selector[]): string { return selectors.map(formatSelector).join('\n') }

function formatAddress ({ address, port }: SocketAddress): string { return hostAndPort(address, port) }
