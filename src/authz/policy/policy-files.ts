import type { Dirent } from 'node:fs'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { PolicyText } from './read-policies.ts'

const mostFiles = 10_000
const mostBytes = 64 * 1_048_576
const deepest = 16

/**
 * Reads files and folders of policies: of a folder all `.yaml`, `.yml` and `.json` below it in the order of their names, hidden ones left
 * out. A file that is named itself may be called anything.
 * @throws {SpiffeError} `file_unusable`, naming the path
 */
export async function readPolicyFiles (paths: readonly string[]): Promise<readonly PolicyText[]> {
  const files: string[] = []
  for (const path of paths) {
    if ((await tried(path, stat(path))).isDirectory()) await collect(path, files, 0)
    else files.push(path)
  }
  let left = mostBytes
  const texts: PolicyText[] = []
  for (const path of new Set(files)) {
    const bytes = await tried(path, readFile(path))
    left -= bytes.length
    if (left < 0) throw new SpiffeError('file_unusable', `${path}: the policies are larger than ${mostBytes} bytes`)
    texts.push({ name: path, text: new TextDecoder().decode(bytes) })
  }
  return texts
}

async function collect (folder: string, files: string[], depth: number): Promise<void> {
  if (depth > deepest) throw new SpiffeError('file_unusable', `${folder} is more than ${deepest} folders deep`)
  const entries: Dirent[] = await tried(folder, readdir(folder, { withFileTypes: true }))
  for (const { name } of entries.toSorted((a, b) => a.name < b.name ? -1 : 1)) {
    // What Kubernetes mounts of a ConfigMap is a link into a folder whose name begins with dots.
    if (name.startsWith('.')) continue
    const path = join(folder, name)
    if ((await tried(path, stat(path))).isDirectory()) await collect(path, files, depth + 1)
    else if (/\.(?:ya?ml|json)$/.test(name)) files.push(path)
    if (files.length > mostFiles) throw new SpiffeError('file_unusable', `${folder} has more than ${mostFiles} files of policies`)
  }
}

async function tried<T> (path: string, attempt: Promise<T>): Promise<T> {
  try {
    return await attempt
  } catch (error) {
    throw new SpiffeError('file_unusable', `cannot read ${path}: ${(error as Error).message}`, { cause: error })
  }
}
