import type { Channel } from '../rpc/channel.ts'
import type { Clock } from '../runtime/clock.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { workloadService } from '../wire/generated/workload.ts'
import { watchStream } from '../workloadapi/watch-stream.ts'
import { openCertDir } from './cert-dir.ts'
import { fileSetOf } from './file-set.ts'
import type { FilesConfig } from './files-config.ts'
import { readJwtBundles, readJwtSvid } from './jwt-material.ts'
import type { Material } from './material.ts'
import { findOwner } from './owners.ts'
import { SetWriter } from './set-writer.ts'
import { metadata } from './workload-client.ts'
import { readX509Material } from './x509-material.ts'

export interface FetchOnceDeps {
  readonly channel: Pick<Channel, 'client'>
  readonly clock: Clock
  /** 0 to 1. */
  readonly random: () => number
  /** For an identity that is not there yet, and an agent that is not. */
  readonly timeoutMs: number
}

export interface FetchReport {
  readonly folder: string
  readonly files: readonly { readonly name: string, readonly mode: string }[]
  /** Whether anything was another before. */
  readonly changed: boolean
  readonly spiffeId: string | undefined
  readonly serialNumber: string | undefined
  readonly notAfter: Date | undefined
}

/**
 * Writes all files once, as a set: all of them or none.
 * @throws {SpiffeError} whatever the agent last refused with when the time is over, or `deadline_exceeded`; as `runFiles` besides
 */
export async function fetchOnce (config: FilesConfig, deps: FetchOnceDeps, signal: AbortSignal): Promise<FetchReport> {
  const owner = await findOwner(config.owner)
  const folder = await openCertDir(config.certDir, { allowUnsafe: config.allowUnsafeCertDir })
  const writer = await SetWriter.open({ folder, owner })
  const material = await askForAll(config, deps, signal)
  const set = fileSetOf(config.files, material, deps.clock.now())
  const changed = await writer.write(set)
  await writer.prune()
  const { x509 } = material
  return {
    folder, changed, spiffeId: x509?.id, serialNumber: x509?.leaf.serialNumber, notAfter: x509?.leaf.notAfter,
    files: [...set].map(([name, file]) => ({ name, mode: `0${(file?.mode ?? 0).toString(8)}` }))
  }
}

async function askForAll ({ files, hint }: FilesConfig, deps: FetchOnceDeps, signal: AbortSignal): Promise<Material> {
  const client = deps.channel.client(workloadService)
  const limit = new AbortController()
  const rest = new AbortController()
  const stop = () => limit.abort(signal.reason)
  signal.addEventListener('abort', stop, { once: true })
  deps.clock.sleep(deps.timeoutMs, rest.signal).then(() => limit.abort(timeIsUp), () => {})
  const until = limit.signal
  const once = <T, R>(open: () => AsyncIterable<T>, read: (response: T) => R) => firstGood(open, read, deps, until)
  try {
    const [x509, jwtBundles, ...tokens] = await Promise.all([
      files.x509 && once(() => client.fetchX509SVID({}, { signal: until, metadata }), response => readX509Material(response, hint)),
      files.jwtBundle === undefined ? undefined : once(() => client.fetchJWTBundles({}, { signal: until, metadata }), readJwtBundles),
      ...files.jwtSvids.map(({ audience, fileName }) => once(
        async function * () { yield await client.fetchJWTSVID({ audience, spiffeId: '' }, { signal: until, metadata }) },
        response => [fileName, readJwtSvid(response, hint).token] as const))
    ])
    return { x509, jwtBundles, jwtSvids: new Map(tokens), isRevoked: false }
  } finally {
    signal.removeEventListener('abort', stop)
    rest.abort()
    // Ends what else is still waiting after a failure.
    limit.abort(new Error('over'))
  }
}

const timeIsUp = new Error('the time is over')

/** The first answer that can be used; of those that could not, and of refusals, the last one is told. */
async function firstGood<T, R> (
  open: () => AsyncIterable<T>, read: (response: T) => R, { clock, random, timeoutMs }: FetchOnceDeps, signal: AbortSignal
): Promise<R> {
  let last: unknown
  try {
    for await (const event of watchStream(open, { clock, random, signal })) {
      if (event.kind === 'lost') {
        last = event.error ?? last
        continue
      }
      try {
        return read(event.response)
      } catch (error) {
        if (!(error instanceof SpiffeError)) throw error
        last = error
      }
    }
  } catch (error) {
    if (signal.reason !== timeIsUp) throw error
  }
  throw last ?? new SpiffeError('deadline_exceeded', `the agent gave nothing within ${timeoutMs} ms`)
}
