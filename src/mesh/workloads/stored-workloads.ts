import { statSync } from 'node:fs'
import { z } from 'zod'
import { writeFileAtomically } from '../../runtime/atomic-file.ts'
import { readIfThere } from '../../runtime/read-if-there.ts'
import { SpiffeError } from '../../spiffe/errors.ts'

/** A workload as its runtime announced it; kept, because no runtime announces one again to an agent that restarted. */
export interface StoredWorkload {
  readonly id: string
  readonly name: string
  readonly netnsPath: string
  /** Of the namespace when it was announced: another under the same path is another workload. */
  readonly inode: number
  readonly addresses: readonly string[]
  readonly selectors: readonly string[]
}

const schema = z.array(z.strictObject({
  id: z.string(), name: z.string(), netnsPath: z.string(), inode: z.number(), addresses: z.array(z.string()), selectors: z.array(z.string())
}))

/** @returns those whose namespace is still there; empty without a file. @throws {SpiffeError} `file_unusable` */
export async function readStoredWorkloads (path: string): Promise<StoredWorkload[]> {
  const text = await readIfThere(path).catch((cause: unknown) => {
    throw new SpiffeError('file_unusable', `${path} cannot be read`, { cause })
  })
  if (text === undefined) return []
  const parsed = schema.safeParse(jsonOf(text))
  if (!parsed.success) throw new SpiffeError('file_unusable', `${path} does not hold workloads; remove it and start their pods anew`)
  return parsed.data.filter(({ netnsPath, inode }) => inodeOf(netnsPath) === inode)
}

export async function writeStoredWorkloads (path: string, workloads: Iterable<StoredWorkload>): Promise<void> {
  await writeFileAtomically(path, JSON.stringify([...workloads], undefined, 2), { mode: 0o600 })
}

export function inodeOf (path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.ino
}

function jsonOf (text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
