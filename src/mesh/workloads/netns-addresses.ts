import { networkInterfaces } from 'node:os'
import { inNamespace } from '../../runtime/network-namespace.ts'
import { SpiffeError } from '../../spiffe/errors.ts'

/**
 * Needs CAP_SYS_ADMIN.
 * @param path of a network namespace
 * @returns the IP addresses inside, without loopback and link-local ones: what others may be told
 * @throws {SpiffeError} `netns_unusable`
 */
export function readNetnsAddresses (path: string): readonly string[] {
  try {
    const all = Object.values(inNamespace(path, networkInterfaces)).flatMap(addresses => addresses ?? [])
    return all.filter(one => !one.internal && (one.scopeid ?? 0) === 0).map(({ address }) => address).toSorted()
  } catch (error) {
    throw new SpiffeError('netns_unusable', `the network namespace cannot be entered: ${(error as Error).message}`, { cause: error })
  }
}
