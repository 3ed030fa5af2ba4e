// Workers that compute, and HTTP on loopback for five seconds and at least 200 requests: JIT code, message ports, epoll, timers.
const {Worker, isMainThread, parentPort, workerData} = require('worker_threads');
const http = require('http');
const seconds = Number(process.argv[2] || 5);
if (!isMainThread) {
  let primes = 0;
  for (let n = 2; n < workerData; n++) {
    let prime = true;
    for (let d = 2; d * d <= n; d++) if (n % d === 0) { prime = false; break; }
    if (prime) primes++;
  }
  parentPort.postMessage(primes);
} else {
  const body = JSON.stringify({text: 'x'.repeat(2000), list: [...Array(100).keys()]});
  const server = http.createServer((request, response) => {
    let size = 0;
    request.on('data', c => size += c.length);
    request.on('end', () => { response.setHeader('x-size', size); response.end(body); });
  });
  server.keepAliveTimeout = server.headersTimeout = server.requestTimeout = 0;  // a machine may be slow
  const agent = new http.Agent({keepAlive: true, maxSockets: 8});
  let served = 0, wrong = 0;
  const ask = (port) => new Promise((resolve, reject) => {
    const request = http.request({host: '127.0.0.1', port, agent, method: 'POST'}, response => {
      let text = '';
      response.on('data', c => text += c);
      response.on('end', () => { if (text !== body || response.headers['x-size'] !== '1000') wrong++; served++; resolve(); });
    });
    request.on('error', reject);
    request.end('y'.repeat(1000));
  });
  const workers = [1, 2, 3, 4].map(i => new Promise((resolve, reject) => {
    const w = new Worker(__filename, {workerData: i * 50000});
    w.on('message', m => w.once('exit', () => resolve(m)));
    w.on('error', reject);
  }));
  server.listen(0, '127.0.0.1', async () => {
    const port = server.address().port, end = Date.now() + seconds * 1000;
    await Promise.all([...Array(8)].map(async () => { while (Date.now() < end || served < 200) await ask(port); }));
    agent.destroy();
    server.close();
    console.log((await Promise.all(workers)).join(' '), wrong, served >= 200);
  });
}
