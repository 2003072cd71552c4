import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** The way of one client to PostgreSQL, which a test can break as a network breaks: nobody is told. */
export interface DatabaseLink extends AsyncDisposable {
  /** Leads over this link to where the given one does. */
  readonly url: string
  /** From now on nothing passes, in either direction, and new connections get no answer. */
  cut (): void
  /** What was held back arrives after all. */
  mend (): void
}

/** @param url of `startPostgres`: with a folder that holds the server's Unix socket */
export async function openDatabaseLink (url: string): Promise<DatabaseLink> {
  const host = new URL(url).searchParams.get('host') ?? ''
  const folder = await mkdtemp(join(tmpdir(), 'database-link-'))
  const name = '.s.PGSQL.5432'
  const sockets = new Set<Socket>()
  let isCut = false
  const carry = (from: Socket, to: Socket) => {
    sockets.add(from)
    from.on('data', chunk => to.write(chunk)).on('end', () => to.end()).on('error', () => {})
    from.on('close', () => {
      sockets.delete(from)
      to.destroy()
    })
    if (isCut) from.pause()
  }
  const server = createServer(near => {
    const far = connect(join(host, name))
    carry(near, far)
    carry(far, near)
  })
  await once(server.listen(join(folder, name)), 'listening')
  return {
    url: url.replace(encodeURIComponent(host), encodeURIComponent(folder)),
    cut () {
      isCut = true
      for (const socket of sockets) socket.pause()
    },
    mend () {
      isCut = false
      for (const socket of sockets) socket.resume()
    },
    async [Symbol.asyncDispose] () {
      for (const socket of sockets) socket.destroy()
      await new Promise(resolve => { server.close(resolve) })
      await rm(folder, { recursive: true, force: true })
    }
  }
}
