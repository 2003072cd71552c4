import { z } from 'zod'
import { writeFileAtomically } from '../../runtime/atomic-file.ts'
import { readIfThere } from '../../runtime/read-if-there.ts'
import { SpiffeError } from '../../spiffe/errors.ts'

const schema = z.array(z.strictObject({
  id: z.string(), network: z.string(), podUid: z.string(), namespace: z.string(), name: z.string(),
  netnsPath: z.string(), inode: z.number(), startedAt: z.string().optional(),
  addresses: z.array(z.string()), selectors: z.array(z.string()), enrolled: z.boolean()
}))

/**
 * The network of one incarnation of a pod as it was known last. Kept, because no runtime announces one again to an agent that restarted,
 * and because the agent must know then which ones it had redirected.
 */
export type StoredSandbox = z.output<typeof schema>[number]

/** @returns empty without a file. @throws {SpiffeError} `file_unusable` */
export async function readStoredSandboxes (path: string): Promise<readonly StoredSandbox[]> {
  const text = await readIfThere(path).catch((cause: unknown) => {
    throw new SpiffeError('file_unusable', `${path} cannot be read`, { cause })
  })
  if (text === undefined) return []
  try {
    return schema.parse(JSON.parse(text))
  } catch (error) {
    throw new SpiffeError('file_unusable', `${path} does not hold pods; remove it: those that run are found again`, { cause: error })
  }
}

export async function writeStoredSandboxes (path: string, sandboxes: readonly StoredSandbox[]): Promise<void> {
  await writeFileAtomically(path, JSON.stringify(sandboxes, undefined, 2), { mode: 0o600 })
}
