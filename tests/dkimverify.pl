# The independent verifier: Debian's Mail::DKIM, asking the name server on loopback whose port is given. A message on stdin, one line a signature out.
use strict;
use warnings;
use Mail::DKIM::DNS;
use Mail::DKIM::Verifier;
use Net::DNS::Resolver;

Mail::DKIM::DNS::resolver(Net::DNS::Resolver->new(
    nameservers => ['127.0.0.1'], port => $ARGV[0], usevc => 1, tcp_timeout => 10, retry => 1));
my $verifier = Mail::DKIM::Verifier->new();
binmode STDIN;
local $/;
$verifier->PRINT(<STDIN>);
$verifier->CLOSE();
printf "%s %s %s\n", $_->domain, $_->selector, $_->result_detail for $verifier->signatures;
