import { readdir, readFile, stat } from 'node:fs/promises'
import { basename, join, relative } from 'node:path'
import { SpiffeError } from '../../spiffe/errors.ts'
import { policyLimits } from '../../spiffe/policy-version.ts'
import { reasonOf } from '../read-input.ts'

/** One file with policy documents. */
export interface PolicyFile {
  /** As it can be opened from here. */
  readonly path: string
  /** The same wherever the folder lies: below the folder that was named, or the file's own. */
  readonly name: string
  readonly text: string
}

const isPolicyFile = /\.(ya?ml|json)$/

/**
 * Reads files, and all `*.yaml`, `*.yml` and `*.json` below folders, in the order of their paths. What begins with a dot is left out.
 * @throws {SpiffeError} `file_unusable`, also when there are none: nothing is a mistake more often than a wish
 */
export async function readPolicyFiles (paths: readonly string[]): Promise<readonly PolicyFile[]> {
  const found: Omit<PolicyFile, 'text'>[] = []
  for (const path of paths) {
    if (!await isFolder(path)) found.push({ path, name: basename(path) })
    else for (const file of await filesBelow(path)) found.push({ path: file, name: relative(path, file) })
  }
  if (found.length === 0) throw new SpiffeError('file_unusable', `there is no *.yaml, *.yml or *.json in ${paths.join(', ')}`)
  const unique = new Map(found.map(file => [file.path, file]))
  const names = new Set([...unique.values()].map(({ name }) => name))
  let left = policyLimits.bytes
  const files: PolicyFile[] = []
  for (const { path, name } of unique.values()) {
    const text = await readText(path)
    left -= text.length
    if (left < 0) throw new SpiffeError('file_unusable', `the policies are longer than ${policyLimits.bytes} bytes`)
    // Files of two folders may have one name.
    files.push({ path, name: names.size === unique.size ? name : path, text })
  }
  return files
}

async function filesBelow (folder: string): Promise<string[]> {
  const names = (await reading(folder, () => readdir(folder))).filter(name => !name.startsWith('.')).toSorted()
  const files: string[] = []
  for (const path of names.map(name => join(folder, name))) {
    if (await isFolder(path)) files.push(...await filesBelow(path))
    else if (isPolicyFile.test(path)) files.push(path)
    if (files.length > policyLimits.texts) {
      throw new SpiffeError('file_unusable', `${folder} has more than ${policyLimits.texts} policy files`)
    }
  }
  return files
}

async function isFolder (path: string): Promise<boolean> { return (await reading(path, () => stat(path))).isDirectory() }

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
