import { execFile, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { Shell } from './shell.ts'

const run = promisify(execFile)

/** Why a test that makes namespaces cannot run here. */
export const needsNamespaces: string | false =
  ['unshare --net true', 'ip -Version'].every(words => spawnSync('sh', ['-c', words], { stdio: 'ignore' }).status === 0)
    ? false
    : 'needs root, and unshare and ip'

/** A network namespace of a test's own; gone when disposed. Needs root, iproute2 and util-linux. */
export class Namespace implements AsyncDisposable {
  readonly #holder: Shell

  private constructor (holder: Shell) { this.#holder = holder }

  static async open (): Promise<Namespace> {
    const namespace = new Namespace(await Shell.start({ within: ['unshare', '--net', '--'] }))
    await namespace.run('ip', 'link', 'set', 'lo', 'up')
    return namespace
  }

  /** Joins two namespaces: 192.0.2.1 and 2001:db8::1 here, 192.0.2.2 and 2001:db8::2 there, each the other's way to everywhere. */
  static async openPair (): Promise<AsyncDisposable & { readonly here: Namespace, readonly there: Namespace }> {
    const here = await Namespace.open()
    const there = await Namespace.open()
    await run('ip', ['link', 'add', 'pair', 'netns', `${here.pid}`, 'type', 'veth', 'peer', 'name', 'pair', 'netns', `${there.pid}`])
    for (const [namespace, own, other] of [[here, 1, 2], [there, 2, 1]] as const) {
      await namespace.run('ip', 'address', 'add', `192.0.2.${own}/24`, 'dev', 'pair')
      await namespace.run('ip', '-6', 'address', 'add', `2001:db8::${own}/64`, 'dev', 'pair', 'nodad')
      await namespace.run('ip', 'link', 'set', 'pair', 'up')
      await namespace.run('ip', 'route', 'add', 'default', 'via', `192.0.2.${other}`)
      await namespace.run('ip', '-6', 'route', 'add', 'default', 'via', `2001:db8::${other}`)
    }
    return {
      here,
      there,
      async [Symbol.asyncDispose] () {
        await here[Symbol.asyncDispose]()
        await there[Symbol.asyncDispose]()
      }
    }
  }

  get pid (): number { return this.#holder.pid }
  get path (): string { return `/proc/${this.pid}/ns/net` }
  /** Words that make a program run in here. */
  get enter (): readonly [string, ...string[]] { return ['nsenter', `--net=${this.path}`, '--'] }

  async run (...words: string[]): Promise<string> {
    const [program, ...before] = this.enter
    return (await run(program, [...before, ...words])).stdout
  }

  [Symbol.asyncDispose] (): Promise<void> { return this.#holder.end() }
}

export interface Arrival { readonly port: number, readonly source: { readonly address: string, readonly port: number } }

/** Accepts in a namespace, and tells what arrives where; connections stay open. */
export class Acceptor implements AsyncDisposable {
  readonly #lines: AsyncIterator<string>
  readonly #stop: () => Promise<unknown>

  private constructor (lines: AsyncIterator<string>, stop: () => Promise<unknown>) {
    this.#lines = lines
    this.#stop = stop
  }

  /** @param listeners `[host, port]` each */
  static async start (namespace: Namespace, listeners: readonly (readonly [string, number])[]): Promise<Acceptor> {
    const script = `
      const { createServer } = require('node:net')
      const listeners = JSON.parse(process.argv[1])
      let open = 0
      for (const [host, port] of listeners) createServer(socket => {
        socket.on('error', () => {})
        console.log([socket.localPort, socket.remoteAddress, socket.remotePort].join(' '))
      }).listen({ host, port, ipv6Only: true }, () => { if (++open === listeners.length) console.log('open') })`
    const [program, ...before] = namespace.enter
    const words = [...before, process.execPath, '-e', script, JSON.stringify(listeners)]
    const child = spawn(program, words, { stdio: ['ignore', 'pipe', 'inherit'] })
    const exit = once(child, 'exit')
    const acceptor = new Acceptor(createInterface({ input: child.stdout })[Symbol.asyncIterator](), () => {
      child.kill('SIGKILL')
      return exit
    })
    if (await acceptor.#line() !== 'open') throw new Error('the acceptor did not open')
    return acceptor
  }

  /** The next connection, in the order of their arrival. */
  async next (): Promise<Arrival> {
    const [port, address = '', sourcePort] = (await this.#line()).split(' ')
    return { port: Number(port), source: { address, port: Number(sourcePort) } }
  }

  async #line (): Promise<string> {
    const { value, done } = await this.#lines.next()
    if (done === true) throw new Error('the acceptor ended')
    return value
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.#stop() }
}
