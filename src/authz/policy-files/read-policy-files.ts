import { readdir, readFile, stat } from 'node:fs/promises'
import { basename, join, relative } from 'node:path'
import { reasonOf } from '../../runtime/reason-of.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { PolicyText } from '../policy/read-policies.ts'

/** One file with policy documents. */
export interface PolicyFile {
  /** As it can be opened from here. */
  readonly path: string
  /** The same wherever the folder lies: below the folder that was named, or the file's own. */
  readonly name: string
  readonly text: string
}

/** Of what is read at once. A server has narrower ones of its own, `policyLimits`, and who gives it more is told so. */
export const policyFileLimits = { files: 4_096, fileBytes: 32 * 1_048_576, bytes: 64 * 1_048_576, depth: 8 }

const isPolicyFile = /\.(ya?ml|json)$/

/**
 * Reads files, and all `*.yaml`, `*.yml` and `*.json` below folders, in the order of their paths: the order of rules is theirs. Names
 * that begin with a dot are passed over, among them what Kubernetes puts beside mounted files.
 * @throws {SpiffeError} `file_unusable`, also when there are none: nothing is a mistake more often than a wish
 */
export async function readPolicyFiles (paths: readonly string[]): Promise<readonly PolicyFile[]> {
  const found = await findPolicyFiles(paths)
  if (found.length === 0) throw new SpiffeError('file_unusable', `there is no *.yaml, *.yml or *.json in ${paths.join(', ')}`)
  const names = new Set(found.map(({ name }) => name))
  const files: PolicyFile[] = []
  for (const { path, name } of found) {
    // Files of two folders may have one name.
    files.push({ path, name: names.size === found.length ? name : path, text: await readText(path) })
  }
  return files
}

/** For who reads them where they lie: their paths are their names. */
export function namedByPath (files: readonly PolicyFile[]): PolicyText[] { return files.map(({ path, text }) => ({ name: path, text })) }

/** A state of files: equal texts mean that nothing changed. @throws {SpiffeError} `file_unusable` */
export async function fingerprintOf (paths: readonly string[]): Promise<string> {
  return (await findPolicyFiles(paths)).map(({ path, state }) => `${path} ${state}`).join('\n')
}

interface Found {
  readonly path: string
  readonly name: string
  readonly size: bigint
  /** Another one after each change. */
  readonly state: string
}

async function findPolicyFiles (paths: readonly string[]): Promise<readonly Found[]> {
  const found = new Map<string, Found>()
  for (const path of paths) await find(path, { root: undefined, depth: 0 }, found)
  const { bytes: most } = policyFileLimits
  const bytes = [...found.values()].reduce((sum, { size }) => sum + size, 0n)
  if (bytes > BigInt(most)) throw new SpiffeError('file_unusable', `the policies have ${bytes} bytes, at most ${most} are read`)
  return [...found.values()]
}

interface Place {
  /** The folder that was named, of files below one. */
  readonly root: string | undefined
  readonly depth: number
}

async function find (path: string, { root, depth }: Place, found: Map<string, Found>): Promise<void> {
  const { files, fileBytes, depth: deepest } = policyFileLimits
  const seen = await reading(path, () => stat(path, { bigint: true }))
  if (seen.isDirectory()) {
    if (depth > deepest) throw new SpiffeError('file_unusable', `${path} is nested more than ${deepest} deep`)
    const names = (await reading(path, () => readdir(path))).filter(name => !name.startsWith('.')).toSorted()
    for (const name of names) await find(join(path, name), { root: root ?? path, depth: depth + 1 }, found)
    return
  }
  if (root !== undefined && !isPolicyFile.test(path)) return
  const { size, mtimeNs, ctimeNs, ino } = seen
  if (size > BigInt(fileBytes)) throw new SpiffeError('file_unusable', `${path} has ${size} bytes, at most ${fileBytes} are read`)
  const name = root === undefined ? basename(path) : relative(root, path)
  found.set(path, { path, name, size, state: `${mtimeNs} ${ctimeNs} ${size} ${ino}` })
  if (found.size > files) throw new SpiffeError('file_unusable', `there are more than ${files} policy files`)
}

async function readText (path: string): Promise<string> {
  const bytes = await reading(path, () => readFile(path))
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (error) {
    throw new SpiffeError('file_unusable', `${path} is no UTF-8`, { cause: error })
  }
}

async function reading<T> (path: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read()
  } catch (error) {
    throw new SpiffeError('file_unusable', `cannot read ${path}: ${reasonOf(error)}`, { cause: error })
  }
}
