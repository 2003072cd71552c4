import type { Clock } from '../../../runtime/clock.ts'
import type { Logger } from '../../../runtime/logger.ts'
import { SpiffeError } from '../../../spiffe/errors.ts'
import { type ProcessGroups, readGroups } from '../process-groups.ts'
import type { WorkloadAttestor } from '../workload-attestor.ts'
import type { ContainerIdMatcher } from './cgroup-matchers.ts'
import { containerIdsOf, isSameGroup } from './container-group.ts'
import { type Container, DockerEngine, type DockerEngineConfig } from './docker-engine.ts'
import { type EngineSockets, socketOf } from './engine-sockets.ts'

export interface DockerAttestorConfig extends Pick<DockerEngineConfig, 'apiVersion' | 'timeoutMs'> {
  readonly sockets: EngineSockets
  /** `undefined`: container IDs are found by the names that engines give to groups. */
  readonly matcher: ContainerIdMatcher | undefined
  readonly logPlaces: boolean
}

export interface DockerAttestorDeps {
  /** Where `/proc` is. */
  readonly proc?: string
  readonly clock: Pick<Clock, 'sleep'>
  readonly log: Logger
}

/** SPIRE's: before the second, third and fourth attempt. */
const backoffsMs = [100, 200, 400]

/**
 * SPIRE's `docker` attestor: `label`, `env`, `image_id`, `image_config_digest` of the container that a process is in. A process in no
 * container has no selectors; one in a container that its engine does not vouch for is refused.
 */
export function createDockerAttestor (
  { sockets, matcher, logPlaces, ...engineConfig }: DockerAttestorConfig, { proc = '/proc', clock, log }: DockerAttestorDeps
): WorkloadAttestor & AsyncDisposable {
  // Of the machine's own engines; users' are connected to as they are asked.
  const kept = new Map([sockets.docker, sockets.podman].map(path => [path, new DockerEngine({ ...engineConfig, socketPath: path })]))
  return {
    name: 'docker',
    async attest ({ pid }, signal) {
      const groups = readGroups(pid, proc)
      if (logPlaces) log.info({ pid, groups: groups.paths }, 'control groups of the process')
      const ids = containerIdsOf(groups, matcher)
      if (ids.length === 0) return []
      const socketPath = socketOf(groups, sockets)
      await using scope = new AsyncDisposableStack()
      const engine = kept.get(socketPath) ?? scope.use(new DockerEngine({ ...engineConfig, socketPath }))
      const values = await withRetries(signal, async () => valuesOf(await vouchedContainer(engine, ids, groups, signal), engine, signal))
      return values.map(value => ({ type: 'docker', value }))
    },
    async [Symbol.asyncDispose] () { await Promise.all([...kept.values()].map(engine => engine[Symbol.asyncDispose]())) }
  }

  /** Of several the outermost that the engine knows: what is within it was named by who is in it. */
  async function vouchedContainer (engine: DockerEngine, ids: readonly string[], groups: ProcessGroups, signal: AbortSignal) {
    for (const id of ids) {
      const container = await engine.container(id, signal)
      if (container === undefined) continue
      if (container.pid > 0 && isSameGroup(groups, readGroups(container.pid, proc), id)) return container
      throw failed(`the process is in a control group named for container ${id.slice(0, 12)}, which is not that container's`)
    }
    throw failed(`the container engine knows no container ${ids.map(id => id.slice(0, 12)).join(' or ')}`)
  }

  async function withRetries<T> (signal: AbortSignal, ask: () => Promise<T>): Promise<T> {
    for (const backoffMs of backoffsMs) {
      try {
        return await ask()
      } catch (error) {
        if (signal.aborted || !(error instanceof SpiffeError)) throw error
        log.debug({ err: error }, 'the container engine could not be asked; asking again')
        await clock.sleep(backoffMs, signal)
      }
    }
    return await ask()
  }
}

async function valuesOf ({ labels, environment, imageId, imageName }: Container, engine: DockerEngine, signal: AbortSignal) {
  // Of an image that was removed meanwhile nothing is known, as in SPIRE.
  const digest = imageName === '' ? undefined : await engine.imageDigest(imageId, signal)
  return [
    ...[...labels].map(([name, value]) => `label:${name}:${value}`),
    ...environment.map(variable => `env:${variable}`),
    ...imageName === '' ? [] : [`image_id:${imageName}`],
    ...digest === undefined || digest === '' ? [] : [`image_config_digest:${digest}`]
  ]
}

function failed (what: string): SpiffeError {
  return new SpiffeError('workload_attestation_failed', what)
}
