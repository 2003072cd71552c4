import { hash } from 'node:crypto'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import type { Watchable } from '../runtime/watchable.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { fileSetOf, type FileSet } from './file-set.ts'
import type { WantedFiles } from './files-config.ts'
import type { FilesMetrics } from './files-metrics.ts'
import { isKnown, type Material } from './material.ts'
import type { SetWriter } from './set-writer.ts'
import type { X509Material } from './x509-material.ts'

/** X.509 files as they are on the disk now. */
export interface Delivered {
  readonly x509: X509Material
  /** Of their content. */
  readonly mark: string
}

export interface DeliverDeps {
  readonly files: WantedFiles
  readonly state: Watchable<Material>
  readonly writer: Pick<SetWriter, 'write' | 'remove'>
  readonly clock: Clock
  readonly log: Logger
  readonly metrics: FilesMetrics
  /** Told of X.509 files that are new, and of the first ones even when they were there already. */
  readonly onDelivered: (delivered: Delivered) => void
  /** For health: what fails, or `undefined`. */
  readonly onTrouble: (message: string | undefined) => void
}

const firstPauseMs = 1_000
const longestPauseMs = 60_000

/** Writes each state of what the agent says, again and again where that fails, until the signal aborts. */
export async function deliver (deps: DeliverDeps, signal: AbortSignal): Promise<void> {
  const { state, clock, log, metrics, onTrouble } = deps
  let mark: string | undefined
  for await (const first of state.watch(signal)) {
    if (!first.isRevoked && !isKnown(first)) continue
    for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(longestPauseMs, pauseMs * 2)) {
      // The newest, should there be a newer one by now.
      const material = state.value
      try {
        const written = await writeOnce(deps, material)
        onTrouble(undefined)
        if (material.isRevoked) mark = undefined
        else if (written !== undefined && written.mark !== mark) {
          mark = written.mark
          deps.onDelivered(written)
        }
        break
      } catch (error) {
        if (!(error instanceof SpiffeError)) throw error
        metrics.wrote('failed')
        onTrouble(error.message)
        log.error({ code: error.code, reason: error.message, retryInMs: pauseMs }, 'the files cannot be written; those of before stay')
        await clock.sleep(pauseMs, signal)
      }
    }
  }
}

async function writeOnce ({ files, writer, clock, log, metrics }: DeliverDeps, material: Material): Promise<Delivered | undefined> {
  const set = fileSetOf(files, material, clock.now())
  if (material.isRevoked) {
    await writer.remove(set.keys())
    metrics.wrote('removed')
    return undefined
  }
  const isNew = await writer.write(set)
  metrics.wrote(isNew ? 'written' : 'unchanged')
  const known = [...set].filter(([, file]) => file !== undefined).map(([name]) => name)
  const facts = { files: known, serial: material.x509?.leaf.serialNumber }
  if (isNew) log.info(facts, 'files written')
  else log.debug(facts, 'files are as they were')
  return material.x509 === undefined || files.x509 === undefined ? undefined : { x509: material.x509, mark: markOf(files, set) }
}

/** Tokens and JWT bundles are read when they are needed: nobody is told of those. */
function markOf ({ x509, federatedBundles }: WantedFiles, set: FileSet): string {
  const names = [...x509 === undefined ? [] : Object.values(x509), ...federatedBundles.map(({ fileName }) => fileName)]
  return names.map(name => hash('sha256', set.get(name)?.content ?? '')).join()
}
