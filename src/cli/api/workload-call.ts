import type { Terminal } from '../terminal.ts'

/** Every call of the Workload API carries this (WLE-04): a browser tricked into calling cannot. */
const securityHeader = { 'workload.spiffe.io': 'true' }

/** @param timeoutMs of the whole call; none for a stream that is to stay open */
export function workloadCallOptions ({ signal }: Terminal, timeoutMs?: number) {
  return { signal, metadata: securityHeader, ...timeoutMs === undefined ? {} : { timeoutMs } }
}
