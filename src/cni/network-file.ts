import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { writeFileAtomically } from '../runtime/atomic-file.ts'
import { readIfThere } from '../runtime/read-if-there.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { chained, networkOf, type PluginEntry, unchained } from './chain.ts'

/** Container runtimes look at these, and take the first by name. */
const suffixes = /\.(conf|conflist|json)$/

/**
 * Puts the plugin at the end of the cluster's network.
 * @param network its name; the first of the folder unless given, as runtimes have it
 * @returns the file that was changed; `undefined`: it was as it should be
 * @throws {SpiffeError} `cni_network_unusable`, `file_unusable`
 */
export async function chainPlugin (folder: string, network: string | undefined, entry: PluginEntry): Promise<string | undefined> {
  for (const name of await configurationsIn(folder)) {
    const file = join(folder, name)
    const text = await read(file)
    // Gone meanwhile.
    if (text === undefined) continue
    try {
      if (network !== undefined && networkOf(text) !== network) continue
      return await replace(file, chained(text, entry))
    } catch (error) {
      // Of one that is looked for by its name, others may be what they like.
      if (!(error instanceof SpiffeError) || error.code !== 'cni_network_unusable') throw error
      if (network === undefined) throw new SpiffeError('cni_network_unusable', `${file}: ${error.message}`)
    }
  }
  throw new SpiffeError('cni_network_unusable', network === undefined
    ? `there is no network in ${folder} yet` : `there is no network ${JSON.stringify(network)} in ${folder}`)
}

/** From all networks. @returns the files that were changed. @throws {SpiffeError} `file_unusable` */
export async function unchainPlugin (folder: string): Promise<readonly string[]> {
  const changed: string[] = []
  for (const name of await configurationsIn(folder)) {
    const file = join(folder, name)
    const text = await read(file)
    if (text !== undefined && await replace(file, unchained(text)) !== undefined) changed.push(file)
  }
  return changed
}

async function configurationsIn (folder: string): Promise<readonly string[]> {
  const names = await readdir(folder).catch((error: Error) => { throw unusable(folder, error) })
  return names.filter(name => suffixes.test(name)).toSorted()
}

async function read (file: string): Promise<string | undefined> {
  return await readIfThere(file).catch((error: Error) => { throw unusable(file, error) })
}

async function replace (file: string, text: string | undefined): Promise<string | undefined> {
  if (text === undefined) return undefined
  try {
    const { mode } = await stat(file)
    await writeFileAtomically(file, text, { mode: mode & 0o777 })
    return file
  } catch (error) {
    throw unusable(file, error as Error)
  }
}

function unusable (path: string, cause: Error): SpiffeError {
  return new SpiffeError('file_unusable', `${path} cannot be used: ${cause.message}`, { cause })
}
