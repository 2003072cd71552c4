import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { PolicyText } from '../policy/read-policies.ts'

const mostFiles = 4_096
const largestFile = 32 * 1_048_576
const deepest = 8
const wanted = /\.(ya?ml|json)$/

/** A state of files: equal texts mean that nothing changed. */
export function fingerprint (paths: readonly string[]): string {
  return policyFiles(paths).map(file => {
    const { mtimeMs, size, ino } = statSync(file)
    return `${file} ${mtimeMs} ${size} ${ino}`
  }).join('\n')
}

/**
 * Reads policy files: each path a file, or a folder with all `.yaml`, `.yml` and `.json` below it. Names that begin with a dot are
 * passed over, among them what Kubernetes puts beside mounted files.
 * @throws {SpiffeError} `file_unusable`
 */
export function readPolicyFiles (paths: readonly string[]): PolicyText[] {
  return policyFiles(paths).map(name => ({ name, text: attempt(name, () => readFileSync(name, 'utf8')) }))
}

/** Sorted: the order of rules is the order of their files' names. */
function policyFiles (paths: readonly string[]): string[] {
  const files = paths.flatMap(path => statOf(path).isDirectory() ? below(path, 0) : [path])
  if (files.length > mostFiles) throw new SpiffeError('file_unusable', `there are more than ${mostFiles} policy files`)
  const large = files.find(file => statOf(file).size > largestFile)
  if (large !== undefined) throw new SpiffeError('file_unusable', `${large} is larger than ${largestFile} bytes`)
  return files
}

function below (folder: string, depth: number): string[] {
  if (depth > deepest) throw new SpiffeError('file_unusable', `${folder} is nested more than ${deepest} deep`)
  return attempt(folder, () => readdirSync(folder)).toSorted().filter(name => !name.startsWith('.')).flatMap(name => {
    const path = join(folder, name)
    if (statOf(path).isDirectory()) return below(path, depth + 1)
    return wanted.test(name) ? [path] : []
  })
}

function statOf (path: string): ReturnType<typeof statSync> & object { return attempt(path, () => statSync(path)) }

function attempt<T> (path: string, action: () => T): T {
  try {
    return action()
  } catch (cause) {
    throw new SpiffeError('file_unusable', `cannot read ${path}: ${(cause as Error).message}`, { cause })
  }
}
