import type { Channel } from '../rpc/channel.ts'
import type { Clock } from '../runtime/clock.ts'
import { type Probe, serveHealthChecks } from '../runtime/health-checks.ts'
import type { Logger } from '../runtime/logger.ts'
import { type Metrics, serveMetrics } from '../runtime/metrics.ts'
import { runTasks, type Task } from '../runtime/tasks.ts'
import { Watchable } from '../runtime/watchable.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { workloadService } from '../wire/generated/workload.ts'
import { openCertDir } from './cert-dir.ts'
import { ChildProgram, type ProgramEnd } from './child-program.ts'
import { deliver } from './deliver.ts'
import type { FilesConfig } from './files-config.ts'
import { filesMetrics } from './files-metrics.ts'
import { followJwtBundles, followX509, type FollowDeps } from './follow-agent.ts'
import { followJwtSvid } from './follow-jwt-svid.ts'
import { type Material, nothingYet } from './material.ts'
import { findOwner } from './owners.ts'
import { Reloader } from './reloader.ts'
import { SetWriter } from './set-writer.ts'

export interface RunFilesDeps {
  /** To the agent's public socket. */
  readonly channel: Pick<Channel, 'client'>
  readonly clock: Clock
  /** 0 to 1. */
  readonly random: () => number
  readonly log: Logger
  readonly metrics?: Metrics | undefined
  /** Told of the program that was started, for whoever passes signals on. */
  readonly onChild?: (child: ChildProgram) => void
  /** The signal that ended us goes to the program too. */
  readonly stopSignal?: () => NodeJS.Signals
}

/**
 * Keeps files as the agent says, and the program that reads them, until the signal aborts or, where it is asked for, the program ends.
 * @returns the exit code: 0, or with `exit_with_cmd` the program's
 * @throws {SpiffeError} `cert_dir_unsafe`, `files_not_written`, `file_unusable`, `config_invalid` at the start alone
 */
export async function runFiles (config: FilesConfig, deps: RunFilesDeps, signal: AbortSignal): Promise<number> {
  const { clock, log } = deps
  const owner = await findOwner(config.owner)
  const folder = await openCertDir(config.certDir, { allowUnsafe: config.allowUnsafeCertDir })
  const writer = await SetWriter.open({ folder, owner })
  const state = new Watchable<Material>(nothingYet)
  const metrics = filesMetrics(deps.metrics, { svidExpiresAt: () => (state.value.x509?.leaf.notAfter.getTime() ?? 0) / 1_000 })
  const follow: FollowDeps = { config, client: deps.channel.client(workloadService), state, clock, random: deps.random, log, metrics }
  const child = config.command === undefined ? undefined : new ChildProgram(config.command, { clock, log })
  if (child !== undefined) deps.onChild?.(child)
  const trouble: Trouble = { write: 'nothing was written yet', reload: undefined }
  const reloader = new Reloader({
    config, child, clock, log, metrics, onTrouble: message => { trouble.reload = message },
    // The next write comes to it again.
    onReloaded: () => writer.prune().catch((err: unknown) => { log.warn({ err }, 'the set of before cannot be removed') })
  })
  for (const warning of config.warnings) log.warn(warning)
  log.info({ folder, files: config.files }, 'files are kept')
  let end: ProgramEnd | undefined
  try {
    await runTasks(signal, [
      ...tasksFollowing(config, follow),
      inner => deliver({
        files: config.files, state, writer, clock, log, metrics,
        onDelivered: delivered => reloader.take(delivered), onTrouble: message => { trouble.write = message }
      }, inner),
      inner => reloader.run(inner),
      ...listeners(config, deps, probesOf(trouble, state, clock)),
      ...child === undefined || config.command?.exitWithIt !== true ? [] : [endWith(child)]
    ])
  } catch (error) {
    if (!(error instanceof Ended)) throw error
    end = error.end
  } finally {
    // Its end after our own signal counts too.
    end ??= await child?.stop(deps.stopSignal?.() ?? 'SIGTERM')
  }
  return config.command?.exitWithIt === true ? end?.exitCode ?? 0 : 0
}

function tasksFollowing ({ files }: FilesConfig, follow: FollowDeps): Task[] {
  return [
    // What the agent says of identities is wanted for tokens too: it tells when they are taken away.
    inner => followX509(follow, inner),
    ...files.jwtBundle === undefined ? [] : [(inner: AbortSignal) => followJwtBundles(follow, inner)],
    ...files.jwtSvids.map(file => (inner: AbortSignal) => followJwtSvid(file, follow, inner))
  ]
}

/** Not a failure: the way out of the tasks. */
class Ended extends Error {
  readonly end: ProgramEnd
  constructor (end: ProgramEnd) {
    super('the program has ended')
    this.end = end
  }
}

function endWith (child: ChildProgram): Task {
  return async signal => {
    const { promise: stopped, resolve } = Promise.withResolvers<undefined>()
    signal.addEventListener('abort', () => resolve(undefined), { once: true })
    const end = await Promise.race([child.firstEnd, stopped])
    if (end !== undefined) throw new Ended(end)
  }
}

interface Trouble { write: string | undefined, reload: string | undefined }

function probesOf (trouble: Trouble, state: Watchable<Material>, clock: Clock): Readonly<Record<string, Probe>> {
  const tell = (message: string | undefined) => { if (message !== undefined) throw new SpiffeError('files_not_written', message) }
  return {
    'files.written': () => tell(trouble.write),
    'files.reloaded': () => tell(trouble.reload),
    'files.svid': () => {
      const notAfter = state.value.x509?.leaf.notAfter
      if (notAfter !== undefined && notAfter <= clock.now()) tell(`the X509-SVID expired at ${notAfter.toISOString()}`)
      if (state.value.isRevoked) tell('the identity was taken away')
    }
  }
}

function listeners (
  { healthChecks, prometheus }: FilesConfig, { log, metrics }: RunFilesDeps, probes: Readonly<Record<string, Probe>>
): Task[] {
  return [
    ...healthChecks === undefined ? [] : [(inner: AbortSignal) => serveHealthChecks(probes, healthChecks, log, inner)],
    ...prometheus === undefined || metrics === undefined ? [] : [(inner: AbortSignal) => serveMetrics(metrics, prometheus, log, inner)]
  ]
}
