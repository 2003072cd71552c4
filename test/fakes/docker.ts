import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'

export interface FakeContainer {
  readonly pid: number
  readonly image?: string
  readonly imageId?: string
  readonly labels?: Readonly<Record<string, string>> | null
  readonly env?: readonly string[] | null
}

/** The calls of the Docker Engine API that an agent makes, over a Unix socket, as Docker 27 answers them. */
export class FakeDocker implements AsyncDisposable {
  readonly containers = new Map<string, FakeContainer>()
  /** By ID; names are looked up in `tags`. */
  readonly images = new Set<string>()
  readonly tags = new Map<string, string>()
  /** Paths, in the order in which they were asked for. */
  readonly asked: string[] = []
  apiVersion: string | undefined = '1.47'
  /** Answers come after this. */
  gate: Promise<void> = Promise.resolve()
  /** What it answers instead, one after the other; then as usual. */
  readonly answers: Array<{ readonly status: number, readonly body: string } | 'hang up'> = []
  readonly #server: Server

  private constructor () { this.#server = createServer((request, response) => { void this.#serve(request, response) }) }

  static async listen (socketPath: string): Promise<FakeDocker> {
    const docker = new FakeDocker()
    docker.#server.listen(socketPath)
    await once(docker.#server, 'listening')
    return docker
  }

  async [Symbol.asyncDispose] (): Promise<void> {
    this.#server.closeAllConnections()
    this.#server.close()
    await once(this.#server, 'close')
  }

  async #serve ({ url = '', socket }: IncomingMessage, response: ServerResponse): Promise<void> {
    this.asked.push(url)
    await this.gate
    const headers = {
      'content-type': 'application/json', server: 'Docker/27.5.1 (linux)',
      ...this.apiVersion === undefined ? {} : { 'api-version': this.apiVersion }
    }
    const answer = (status: number, body: unknown) => response.writeHead(status, headers).end(JSON.stringify(body))
    if (url === '/_ping') return void response.writeHead(200, headers).end('OK')
    const instead = this.answers.shift()
    if (instead === 'hang up') return void socket.destroy()
    if (instead !== undefined) return void response.writeHead(instead.status, headers).end(instead.body)
    const [, version = '', kind, name = ''] = /^\/v(\d+\.\d+)\/(containers|images)\/(.+)\/json$/.exec(url) ?? []
    if (Number(version.split('.')[1]) > Number((this.apiVersion ?? '1.47').split('.')[1])) {
      return void answer(400, { message: `client version ${version} is too new. Maximum supported API version is ${this.apiVersion}` })
    }
    const key = decodeURIComponent(name)
    if (kind === 'containers') {
      const container = this.containers.get(key)
      return void (container === undefined
        ? answer(404, { message: `No such container: ${key}` }) : answer(200, inspected(key, container)))
    }
    const id = this.images.has(key) ? key : this.tags.get(key)
    if (kind !== 'images' || id === undefined) return void answer(404, { message: `No such image: ${key}` })
    answer(200, { Id: id, RepoTags: [], RepoDigests: [], Architecture: 'amd64', Os: 'linux', Size: 117, RootFS: { Type: 'layers' } })
  }
}

/** A container in the shape in which Docker shows it. */
function inspected (id: string, { pid, image = 'web:1', imageId = '', labels = {}, env = [] }: FakeContainer): object {
  return {
    Id: id, Created: '2026-01-01T00:00:00.123456789Z', Path: '/web', Args: [],
    State: {
      Status: pid > 0 ? 'running' : 'exited', Running: pid > 0, Paused: false, Restarting: false, OOMKilled: false, Dead: false, Pid: pid,
      ExitCode: 0, Error: '', StartedAt: '2026-01-01T00:00:01Z', FinishedAt: '0001-01-01T00:00:00Z'
    },
    Image: imageId, Name: '/web-1', RestartCount: 0, Driver: 'overlay2', Platform: 'linux', MountLabel: '', ProcessLabel: '',
    HostConfig: { NetworkMode: 'bridge', CgroupParent: '', MemorySwappiness: null, LogConfig: { Type: 'json-file', Config: {} } },
    Mounts: [],
    Config: {
      Hostname: id.slice(0, 12), Domainname: '', User: '', Tty: false, Env: env, Cmd: null, Image: image, Volumes: null, WorkingDir: '/',
      Entrypoint: ['/web'], OnBuild: null, Labels: labels
    },
    NetworkSettings: { Ports: {}, Networks: {} }
  }
}
