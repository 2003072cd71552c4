import { chmodSync, lstatSync, mkdirSync, mkdtempSync, renameSync, rmSync, type BigIntStats } from 'node:fs'
import { connect, type Server } from 'node:net'
import { dirname, join } from 'node:path'
import { SpiffeError } from '../spiffe/errors.ts'

/** `sun_path` less the final zero. */
const longestPath = 107

/**
 * Listens on a Unix socket that nobody can reach before it has its mode: it is made in a private folder and then moved
 * to its place. A file that a dead process left is replaced, a living listener never. Missing parent folders are made.
 * @param mode e.g. 0o770
 * @param takeOver replace a living listener too: it keeps its connections, new ones come here
 * @returns removes the file, unless another process has taken its place meanwhile
 * @throws {SpiffeError} `socket_in_use`, `file_unusable`
 */
export async function claimSocketPath (server: Server, path: string, mode: number, backlog: number, takeOver = false): Promise<() => void> {
  const parent = dirname(path)
  let folder: string | undefined
  try {
    mkdirSync(parent, { recursive: true, mode: 0o755 })
    await refuseOthers(path, takeOver)
    folder = mkdtempSync(join(parent, '.s'))
    const temporary = join(folder, 's')
    if (Buffer.byteLength(path) > longestPath || Buffer.byteLength(temporary) > longestPath) {
      const most = `${longestPath} bytes, or its folder than ${longestPath - 11}`
      throw new SpiffeError('file_unusable', `socket path ${path} is longer than ${most}`)
    }
    await listen(server, temporary, backlog)
    chmodSync(temporary, mode)
    const { dev, ino } = lstatSync(temporary, { bigint: true })
    renameSync(temporary, path)
    return () => {
      const now = statOf(path)
      if (now?.dev === dev && now.ino === ino) rmSync(path, { force: true })
    }
  } catch (error) {
    server.close()
    if (error instanceof SpiffeError) throw error
    throw new SpiffeError('file_unusable', `cannot listen on ${path}: ${(error as Error).message}`, { cause: error })
  } finally {
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true })
  }
}

async function refuseOthers (path: string, takeOver: boolean): Promise<void> {
  const stat = statOf(path)
  if (stat === undefined) return
  if (!stat.isSocket()) throw new SpiffeError('file_unusable', `${path} exists and is no socket`)
  if (!takeOver && await answers(path)) throw new SpiffeError('socket_in_use', `another process listens on ${path}`)
}

/** A refused connection is the only proof that nobody listens: all else counts as a listener. */
function answers (path: string): Promise<boolean> {
  return new Promise(resolve => {
    const probe = connect(path)
    probe.once('connect', () => { probe.destroy(); resolve(true) })
    probe.once('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT'))
  })
}

function listen (server: Server, path: string, backlog: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ path, backlog }, () => { server.off('error', reject); resolve() })
  })
}

function statOf (path: string): BigIntStats | undefined {
  return lstatSync(path, { bigint: true, throwIfNoEntry: false })
}
