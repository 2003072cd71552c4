import { dirname, resolve } from 'node:path'
import { z } from 'zod'
import { parseYaml } from '../../runtime/yaml-text.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { type ApiAccess, readAccessFile } from './api-access.ts'

const text = z.string().nullish().transform(value => value === null || value === '' ? undefined : value)

/** Other keys are for other programs. */
const kubeconfigSchema = z.looseObject({
  'current-context': z.string().min(1, 'names no context'),
  contexts: z.array(z.looseObject({ name: z.string(), context: z.looseObject({ cluster: z.string(), user: text }) })),
  clusters: z.array(z.looseObject({
    name: z.string(),
    cluster: z.looseObject({
      server: z.string(),
      'certificate-authority': text,
      'certificate-authority-data': text,
      'tls-server-name': text,
      'insecure-skip-tls-verify': z.boolean().nullish(),
      'proxy-url': text
    })
  })),
  users: z.array(z.looseObject({
    name: z.string(),
    user: z.looseObject({
      token: text,
      tokenFile: text,
      'client-certificate': text,
      'client-certificate-data': text,
      'client-key': text,
      'client-key-data': text
    })
  })).nullish()
})

/** Ways to authenticate that need programs or services of their own. */
const refusedUserKeys = ['exec', 'auth-provider', 'username', 'password', 'as', 'as-user-extra', 'as-groups', 'as-uid']

/**
 * Reads the current context of a kubeconfig file, and the files that it names, relative to its folder. Read anew each time.
 * @throws {SpiffeError} `kubernetes_unreachable`, which names the file and what is wrong with it, never a value of it
 */
export async function readKubeconfigAccess (path: string): Promise<ApiAccess> {
  const refuse = (why: string) => new SpiffeError('kubernetes_unreachable', `kubeconfig ${path} ${why}`)
  const documents = parseYaml(path, await readAccessFile(path))
  if ('problems' in documents) throw refuse(`is no YAML: ${documents.problems.map(({ where, rule }) => `${where} ${rule}`).join('; ')}`)
  const { data: config, error } = kubeconfigSchema.safeParse(documents[0]?.raw)
  if (config === undefined) throw refuse(`cannot be used: ${describe(error)}`)
  const find = <T extends { readonly name: string }>(list: readonly T[], name: string, kind: string): T => {
    const found = list.find(item => item.name === name)
    if (found === undefined) throw refuse(`has no ${kind} ${JSON.stringify(name)}`)
    return found
  }
  const { context } = find(config.contexts, config['current-context'], 'context')
  const { cluster } = find(config.clusters, context.cluster, 'cluster')
  const user = context.user === undefined ? undefined : find(config.users ?? [], context.user, 'user').user
  const refused = refusedUserKeys.find(key => user !== undefined && Object.hasOwn(user, key))
  if (refused !== undefined) throw refuse(`authenticates by ${refused}, which is not offered: give a token, a file or a certificate`)
  if (cluster['proxy-url'] !== undefined) throw refuse('names a proxy-url, which is not offered')
  const server = URL.canParse(cluster.server) ? new URL(cluster.server) : undefined
  if (server?.protocol !== 'https:' || server.username !== '') throw refuse('names no https:// server')

  const folder = dirname(resolve(path))
  const content = async (data: string | undefined, file: string | undefined) => {
    if (data !== undefined) return Buffer.from(data, 'base64').toString('utf8')
    return file === undefined ? undefined : await readAccessFile(resolve(folder, file))
  }
  const [ca, certificate, key, tokenFile] = await Promise.all([
    content(cluster['certificate-authority-data'], cluster['certificate-authority']),
    content(user?.['client-certificate-data'], user?.['client-certificate']),
    content(user?.['client-key-data'], user?.['client-key']),
    content(undefined, user?.tokenFile)
  ])
  if ((certificate === undefined) !== (key === undefined)) throw refuse('has one of client-certificate and client-key without the other')
  return {
    server,
    ca,
    serverName: cluster['tls-server-name'],
    skipVerify: cluster['insecure-skip-tls-verify'] === true,
    client: certificate === undefined || key === undefined ? undefined : { certificate, key },
    // As kubectl has it, the file wins: it is the one that is kept fresh.
    token: tokenFile?.trim() ?? user?.token
  }
}

function describe (error: z.ZodError | undefined): string {
  return (error?.issues ?? []).map(({ path, message }) => `${path.join('.') || 'it'}: ${message}`).join('; ')
}
