import { readFile } from 'node:fs/promises'

/** A text file; `undefined` where there is none. Throws the system's error when it cannot be read. */
export async function readIfThere (path: string): Promise<string | undefined> {
  return await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
}
