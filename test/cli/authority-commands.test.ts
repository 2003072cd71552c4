import t from 'tap'
import { bind } from '../../src/rpc/server.ts'
import { SpiffeError } from '../../src/spiffe/errors.ts'
import { localAuthorityService, type AuthorityStateInit } from '../../src/wire/generated/server-local-authority.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { serveServices } from '../fakes/serve-services.ts'
import { startTestServer } from '../fakes/server.ts'

const state = (authorityId: string, more: AuthorityStateInit = {}): AuthorityStateInit =>
  ({ authorityId, expiresAt: 1_800_000_000n, ...more })
const rows = (id: string) => `  Authority ID: ${id}\n  Expires at: 2027-01-15 08:00:00 +0000 UTC\n`
const noUpstream = '  Upstream authority ID: No upstream authority\n'

void t.test('localauthority and upstreamauthority print as SPIRE does', async t => {
  const asked: unknown[] = []
  const remember = (request: unknown) => { asked.push(request) }
  const socket = await serveServices(t, [bind(localAuthorityService, {
    getX509AuthorityState: async () => ({ active: state('a'), prepared: state('p', { upstreamAuthoritySubjectKeyId: 'up' }) }),
    prepareX509Authority: async () => ({ preparedAuthority: state('p') }),
    activateX509Authority: async request => { remember(request); return { activatedAuthority: state('p') } },
    taintX509Authority: async request => { remember(request); return { taintedAuthority: state('a') } },
    revokeX509Authority: async request => { remember(request); return { revokedAuthority: state('a') } },
    getJWTAuthorityState: async () => ({ active: state('j'), old: state('i\u001B[2J') }),
    prepareJWTAuthority: async () => ({ preparedAuthority: state('k') }),
    activateJWTAuthority: async () => ({ activatedAuthority: state('k') }),
    taintJWTAuthority: async () => ({ taintedAuthority: state('j') }),
    revokeJWTAuthority: async () => ({ revokedAuthority: state('j') }),
    taintX509UpstreamAuthority: async ({ subjectKeyId }) => ({ upstreamAuthoritySubjectKeyId: subjectKeyId }),
    async revokeX509UpstreamAuthority () { throw new SpiffeError('no_upstream_authority', 'upstream authority is not configured') }
  })])
  const assay = (...words: string[]) => runAssay([...words, '-socketPath', socket])
  const local = (...words: string[]) => assay('localauthority', ...words)
  t.same(await local('x509', 'show'), {
    code: 0,
    stdout: `Active X.509 authority:\n${rows('a')}${noUpstream}\nPrepared X.509 authority:\n${rows('p')}` +
      '  Upstream authority Subject Key ID: up\n\nOld X.509 authority:\n  No old X.509 authority found\n',
    stderr: ''
  })
  t.match(await local('jwt', 'show'), {
    stdout: `Active JWT authority:\n${rows('j')}\nPrepared JWT authority:\n  No prepared JWT authority found\n\n` +
      `Old JWT authority:\n${rows('i\\x1b[2J')}`
  }, 'without an upstream, and what the server wrote cannot steer the terminal')
  t.same(JSON.parse((await local('jwt', 'show', '-output', 'json')).stdout), {
    active: { authority_id: 'j', expires_at: '1800000000', upstream_authority_subject_key_id: '' },
    old: { authority_id: 'i\u001B[2J', expires_at: '1800000000', upstream_authority_subject_key_id: '' }
  })
  for (const [words, heading, id] of [
    [['x509', 'prepare'], 'Prepared X.509', 'p'], [['x509', 'activate', '-authorityID', 'p'], 'Activated X.509', 'p'],
    [['x509', 'taint', '-authorityID', 'a'], 'Tainted X.509', 'a'],
    [['x509', 'revoke', '-authorityID', 'a', '-force'], 'Revoked X.509', 'a'],
    [['jwt', 'prepare'], 'Prepared JWT', 'k'], [['jwt', 'activate', '-authorityID', 'k'], 'Activated JWT', 'k'],
    [['jwt', 'taint', '-authorityID', 'j'], 'Tainted JWT', 'j'], [['jwt', 'revoke', '-authorityID', 'j', '-force'], 'Revoked JWT', 'j']
  ] as const) {
    const stdout = `${heading} authority:\n${rows(id)}${words[0] === 'x509' ? noUpstream : ''}`
    const stderr = words[1] === 'revoke' ? 'Warning: this server cannot tell who relies on the authority\n' : ''
    t.same(await local(...words), { code: 0, stdout, stderr }, words.join(' '))
  }
  t.same(asked, [{ authorityId: 'p' }, { authorityId: 'a' }, { authorityId: 'a' }])
  t.equal((await local('jwt', 'taint', '-authorityID', 'j', '-output', 'json')).stdout,
    '{"tainted_authority":{"authority_id":"j","expires_at":"1800000000","upstream_authority_subject_key_id":""}}\n')
  t.match(await local('x509', 'revoke', '-authorityID', 'a'), { code: 4, stdout: '', stderr: /code: authority_relied_on/ },
    'a server that cannot tell who breaks is not told without -force')
  t.equal((await local('jwt', 'revoke', '-authorityID', 'j', '-force', '-output', 'json')).stdout,
    '{"breaks_unknown":true,"revoked_authority":{"authority_id":"j","expires_at":"1800000000","upstream_authority_subject_key_id":""}}\n')
  for (const verb of ['activate', 'taint', 'revoke']) {
    t.match(await local('x509', verb), { code: 2, stderr: /Error: an authority ID is required/ }, verb)
  }

  t.same(await assay('upstreamauthority', 'taint', '-subjectKeyID', 'ab'), {
    code: 0, stdout: 'Tainted X.509 upstream authority:\n  Subject Key ID: ab\n', stderr: ''
  })
  t.equal((await assay('upstreamauthority', 'taint', '-subjectKeyID', 'ab', '-output', 'json')).stdout,
    '{"upstream_authority_subject_key_id":"ab"}\n')
  t.match(await assay('upstreamauthority', 'revoke', '-subjectKeyID', 'ab'), { code: 1, stderr: /code: no_upstream_authority/ })
  t.match(await assay('upstreamauthority', 'revoke'), { code: 2, stderr: /the Subject Key ID of the X.509 upstream authority is required/ })
})

void t.test('an authority lives its whole life by commands on a real server', async t => {
  await using server = await startTestServer()
  const assay = async (...words: string[]) => {
    const { code, stdout, stderr } = await runAssay([...words, '-socketPath', server.config.socketPath, '-output', 'json'])
    return { code, stderr, answer: stdout === '' ? undefined : JSON.parse(stdout) as Record<string, { authority_id: string } | undefined> }
  }
  for (const kind of ['x509', 'jwt']) {
    const local = (verb: string, id?: string) => assay('localauthority', kind, verb, ...id === undefined ? [] : ['-authorityID', id])
    const first = (await local('show')).answer?.['active']?.authority_id ?? ''
    t.match(await local('activate', first), { code: 1, stderr: /"code":"authority_unknown"/ })
    t.match(await local('taint', first), { code: 1, stderr: /"code":"authority_in_use"/ })
    const second = (await local('prepare')).answer?.['prepared_authority']?.authority_id ?? ''
    t.not(second, first)
    t.match(await local('activate', second), { code: 0, answer: { activated_authority: { authority_id: second } } })
    t.match(await local('revoke', first), { code: 1, stderr: /"code":"authority_not_tainted"/ })
    t.match(await local('taint', first), { code: 0, answer: { tainted_authority: { authority_id: first } } })
    t.match(await local('revoke', first), { code: 0, answer: { revoked_authority: { authority_id: first } } })
    t.match((await local('show')).answer, { active: { authority_id: second }, prepared: undefined, old: undefined })
  }
  t.match(await assay('upstreamauthority', 'taint', '-subjectKeyID', 'ab'), { code: 1, stderr: /"code":"no_upstream_authority"/ })
})
