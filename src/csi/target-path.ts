import { realpathSync } from 'node:fs'
import { basename, dirname, join, normalize, relative } from 'node:path'
import { SpiffeError } from '../spiffe/errors.ts'

/** The longest that Linux takes, less its final zero. */
const longestPath = 4095

/**
 * Reads a path that the kubelet names, before anything is done there.
 * @param field as the request has it
 * @throws {SpiffeError} `volume_request_invalid`
 */
export function parseTargetPath (text: string, field: string): string {
  const invalid = (rule: string) => new SpiffeError('volume_request_invalid', `${field} ${rule}: ${JSON.stringify(text.slice(0, 200))}`)
  if (text === '') throw new SpiffeError('volume_request_invalid', `${field} is missing`)
  if (Buffer.byteLength(text) > longestPath) throw invalid(`is longer than ${longestPath} bytes`)
  if (text.includes('\0') || !text.startsWith('/') || normalize(text) !== text || text.endsWith('/')) {
    throw invalid('is no absolute path without dots and double slashes')
  }
  return text
}

/**
 * Where the path is once links are followed, itself not: below the pods of this node's kubelet and nowhere else, so that no request,
 * however it came, makes or ends a mount of the node's own.
 * @returns `undefined` when the folder that should hold it is not there
 * @throws {SpiffeError} `volume_request_invalid`
 */
export function placeOf (path: string, podsDir: string): string | undefined {
  const parent = realOf(dirname(path))
  const pods = realOf(podsDir)
  if (parent === undefined || pods === undefined) return undefined
  const place = join(parent, basename(path))
  // `<pod UID>/volumes/…` at least: a pod's own folder is no volume.
  const within = relative(pods, place)
  if (within.startsWith('..') || within.split('/').length < 2) {
    throw new SpiffeError('volume_request_invalid', `${path} is in no pod's folder below ${podsDir}`)
  }
  return place
}

function realOf (path: string): string | undefined {
  try {
    return realpathSync(path)
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined
    throw new SpiffeError('volume_request_invalid', `${path} cannot be looked up: ${(error as Error).message}`, { cause: error })
  }
}
