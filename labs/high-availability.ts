import type { Lab } from './frame/lab.ts'
import { bash, openssl, postgresql } from './frame/needs.ts'
import type { Stage } from './frame/stage.ts'

const serverConfig = `server:
  trust_domain: example.org
  bind_address: 127.0.0.1
  datastore_url: \${DATABASE_URL}
plugins:
  KeyManager:
  - database: {plugin_data: {key_encryption_key_file: kek}}
`
const agentConfig = `agent:
  trust_domain: example.org
  server_addresses: ["127.0.0.1:\${ONE_PORT}", "127.0.0.1:\${TWO_PORT}", "127.0.0.1:\${THREE_PORT}"]
  data_dir: agent
  socket_path: agent.sock
  trust_bundle_path: bundle.pem
  join_token_file: token
`
const database = '$AS_POSTGRES postgres -D $PWD/pg/data -k $PWD/pg -c listen_addresses='
const entry = (name: string) =>
  `assay entry create -spiffeID spiffe://example.org/${name} -parentID spiffe://example.org/node -selector unix:uid:$(id -u)`
const chores = (sockets: string) => `assay server status ${sockets} 2>&1 | grep -E "^(Datastore|Authorities|Chores)"`

/** The short ID of the replica that does the chores. */
function holderOf (status: string): string { return /^Chores +: ([0-9a-f]{8}) /m.exec(status)?.[1] ?? '' }

function startServer (stage: Stage, name: string, suffix = '') {
  return stage.startUntil('server is running', `${name}${suffix}`, 'assay server run -config server.yaml -expandEnv' +
    ` -serverPort $${name.toUpperCase()}_PORT -dataDir ${name} -socketPath ${name}.sock`)
}

export const lab: Lab = {
  title: 'High availability: three replicas on PostgreSQL, the leader dies, the database too',
  needs: [bash, openssl, postgresql],
  proof: 'soak',
  async play (stage) {
    stage.step('A database')
    await stage.openFolder()
    stage.say('PostgreSQL refuses to run as root: $AS_POSTGRES makes another user of root, and leaves others as they are.')
    // Who dies with whom is forgotten with the user, and said again.
    const another = 'setpriv --reuid=65534 --regid=65534 --clear-groups --pdeathsig KILL --'
    stage.setUnshown('AS_POSTGRES', process.getuid?.() === 0 ? another : 'env')
    await stage.run('mkdir -m 700 pg && { [ $(id -u) != 0 ] || chown 65534:65534 pg; }')
    await stage.run('$AS_POSTGRES env -C / initdb -D $PWD/pg/data -U assay -A trust -E UTF8 --locale=C --no-sync > initdb.log')
    const postgres = await stage.startUntil('ready to accept connections', 'postgres', database)
    stage.set('DATABASE_URL', `postgres:///postgres?host=${encodeURIComponent(`${stage.folder}/pg`)}&user=assay`)

    stage.step('Three servers')
    await stage.run('openssl rand -hex 32 > kek && chmod 600 kek')
    await stage.write('server.yaml', serverConfig)
    for (const name of ['ONE', 'TWO', 'THREE']) await stage.port(`${name}_PORT`)
    const one = await startServer(stage, 'one')
    await startServer(stage, 'two')
    await startServer(stage, 'three')
    const status = await stage.until('one of them does the chores', chores('-socketPath two.sock'), /^Chores +: [0-9a-f]{8} /m)
    const leader = holderOf(status)
    const replicas = async () => JSON.parse(await stage.look('assay server status -socketPath two.sock -output json || true')) as {
      replicas: { id: string, address: string }[]
    }
    const first = (await replicas()).replicas.find(({ id }) => id.startsWith(leader))
    const port = await stage.look('echo -n $ONE_PORT')
    stage.check('the first that came up does the chores', first?.address.endsWith(`:${port}`) === true, status)
    const bundles = await stage.run('for name in one two three; do assay bundle show -socketPath $name.sock | sha256sum; done | sort -u')
    stage.check('all have one root', bundles.trim().split('\n').length === 1, bundles)

    stage.step('What one is told all know')
    await stage.run('assay bundle show -socketPath one.sock > bundle.pem')
    await stage.run("assay token generate -socketPath two.sock -spiffeID spiffe://example.org/node | sed 's/^Token: //' > token")
    await stage.write('agent.yaml', agentConfig)
    await stage.startUntil('agent is serving', 'agent', 'assay agent run -config agent.yaml -expandEnv')
    stage.set('SPIFFE_ENDPOINT_SOCKET', `unix://${stage.folder}/agent.sock`)
    await stage.run(`${entry('web')} -entryID web -socketPath three.sock`)
    await stage.until('the agent has it', 'assay api fetch x509 -output json | grep -o spiffe://example.org/web', /web/)

    stage.step('The leader dies')
    await stage.crash(one)
    const after = await stage.until('another one does the chores', chores('-socketPath two.sock -socketPath three.sock'),
      new RegExp(`^Chores +: (?!${leader})[0-9a-f]{8} `, 'm'))
    stage.check('another replica holds the lease', holderOf(after) !== leader, after)
    await stage.run(`${entry('api')} -entryID api -socketPath two.sock -socketPath three.sock`)
    const served = await stage.until('the agent has it, from one that is left',
      'assay api fetch x509 -output json | grep -oE "spiffe://example.org/(api|web)" | sort -u', /api/)
    stage.checkMatch('the agent goes on where it was', served, /api\n.*web/)

    stage.step('It comes back')
    await startServer(stage, 'one', '-again')
    const known = await stage.run('assay entry show -socketPath one.sock | grep "SPIFFE ID" | sort')
    stage.checkMatch('it knows what was changed without it', known, /\/api/)

    stage.step('The database dies')
    await stage.crash(postgres)
    const late = `${entry('late')} -entryID late -socketPath two.sock`
    const refused = await stage.until('servers have noticed', `${late} 2>&1 | grep code:`, /code: datastore_unavailable/)
    stage.checkMatch('nothing can be changed', refused, /datastore_unavailable/)
    await stage.run('assay api fetch x509 -output json | grep -oE "spiffe://example.org/(api|web)" | sort -u')
    stage.check('workloads keep their SVIDs', true)

    stage.step('The database comes back')
    await stage.startUntil('ready to accept connections', 'postgres-again', database)
    await stage.until('it is made', late, /^SPIFFE ID +: .*late/m)
    const all = await stage.until('the agent has it',
      'assay api fetch x509 -output json | grep -oE "spiffe://example.org/(api|late|web)" | sort -u', /late/)
    stage.checkMatch('all goes on, and nothing is lost', all, /api\n.*late\n.*web/)
  }
}
