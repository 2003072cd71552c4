import { randomUUID } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { writeFileAtomically } from '../../runtime/atomic-file.ts'
import { readIfThere } from '../../runtime/read-if-there.ts'
import { SpiffeError } from '../../spiffe/errors.ts'

/** Names this server through restarts: a UUID in the data folder, made at the first start. @throws {SpiffeError} `file_unusable` */
export async function readServerId (dataDir: string): Promise<string> {
  const file = join(dataDir, 'server-id')
  try {
    await mkdir(dataDir, { recursive: true, mode: 0o700 })
    const stored = await readIfThere(file)
    const id = stored?.trim() ?? randomUUID()
    if (!/^[0-9a-f-]{36}$/.test(id)) throw new Error('it holds no UUID; remove it to have a new one made')
    if (stored === undefined) await writeFileAtomically(file, `${id}\n`, { mode: 0o600 })
    return id
  } catch (error) {
    throw new SpiffeError('file_unusable', `cannot use ${file}: ${(error as Error).message}`, { cause: error })
  }
}
