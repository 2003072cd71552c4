import { readFile } from 'node:fs/promises'
import { SpiffeError } from '../../spiffe/errors.ts'

/** How an API server is reached, and by what right. */
export interface ApiAccess {
  /** `https:`; a path in it is a prefix of all others. */
  readonly server: URL
  /** PEM; the web's authorities unless given. */
  readonly ca: string | undefined
  /** In the server's certificate, instead of the host in `server`. */
  readonly serverName: string | undefined
  readonly skipVerify: boolean
  /** PEM. Secret. */
  readonly client: { readonly certificate: string, readonly key: string } | undefined
  /** Secret. */
  readonly token: string | undefined
}

/** What the kubelet mounts into each container that talks to its own cluster. */
const mounted = '/var/run/secrets/kubernetes.io/serviceaccount'

/**
 * The way to the cluster that this process runs in. Read anew each time: the token changes within the hour.
 * @param folder of the mounted token and CA
 * @throws {SpiffeError} `kubernetes_unreachable`: it does not run in one, or cannot read what is mounted
 */
export async function readInClusterAccess (env: NodeJS.ProcessEnv = process.env, folder = mounted): Promise<ApiAccess> {
  const { KUBERNETES_SERVICE_HOST: host = '', KUBERNETES_SERVICE_PORT: port = '' } = env
  if (host === '' || port === '') {
    throw new SpiffeError('kubernetes_unreachable', 'this process runs in no cluster, and kube_config_file is not set')
  }
  const [token, ca] = await Promise.all([`${folder}/token`, `${folder}/ca.crt`].map(readAccessFile))
  return {
    server: new URL(`https://${host.includes(':') ? `[${host}]` : host}:${port}`),
    ca, serverName: undefined, skipVerify: false, client: undefined, token: token?.trim()
  }
}

/** @throws {SpiffeError} `kubernetes_unreachable`: a file that comes back makes the next call succeed */
export async function readAccessFile (path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw new SpiffeError('kubernetes_unreachable', `cannot read ${path}: ${(error as NodeJS.ErrnoException).code ?? 'no reason given'}`)
  }
}
