import { SpiffeError } from '../../../spiffe/errors.ts'
import type { ProcessGroups } from '../process-groups.ts'

/** Paths of Unix sockets. */
export interface EngineSockets {
  readonly docker: string
  readonly podman: string
  /** With `%d` for the user's ID; `undefined`: containers of users' own Podmans are not attested. */
  readonly podmanOfUser: string | undefined
}

/**
 * Which engine to ask: Podman names its groups `libpod`, below the slice of its user where it is that user's own.
 * @throws {SpiffeError} `workload_attestation_failed`: a user's own Podman, whose answers are that user's, and nobody said that they count
 */
export function socketOf ({ paths }: ProcessGroups, sockets: EngineSockets): string {
  const ofPodman = paths.find(path => /libpod-|\/libpod\//.test(path))
  if (ofPodman === undefined) return sockets.docker
  const uid = /\/user-(\d{1,10})\.slice\//.exec(ofPodman)?.[1]
  if (uid === undefined) return sockets.podman
  if (sockets.podmanOfUser !== undefined) return formatTemplate(sockets.podmanOfUser, uid)
  throw new SpiffeError('workload_attestation_failed',
    `a container of Podman's that user ${uid} runs: that user decides what its Podman says; if it may, set podman_socket_path_template`)
}

/** Why it is none, or `undefined`. */
export function templateProblem (template: string): string | undefined {
  const tokens = template.match(/%.?/g) ?? []
  if (tokens.some(token => token !== '%%' && token !== '%d')) return 'must have % only in %d, the user\'s ID, and in %%'
  return tokens.filter(token => token === '%d').length === 1 ? undefined : 'must have %d, the user\'s ID, exactly once'
}

function formatTemplate (template: string, uid: string): string {
  return template.replaceAll(/%[d%]/g, token => token === '%d' ? `${Number(uid)}` : '%')
}
